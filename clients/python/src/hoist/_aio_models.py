"""The calls about models of the client for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Literal, overload

from hoist import _plans_models
from hoist._aio_calls import AsyncCalls
from hoist._aio_operation import AsyncOperation
from hoist._enums import Priority, ValidationLevel, Verdict
from hoist._models import (
    ComponentGroup,
    DeletedModel,
    DigestResult,
    Model,
    ModelVerdict,
    Root,
    ScanResult,
    ValidationResult,
)
from hoist._plans_models import Name, Words
from hoist._quantities import Time
from hoist._types import Progress


class AsyncModelCalls(AsyncCalls):
    """What a client inherits."""

    def models(
        self,
        *,
        type: Words | None = None,
        base: Words | None = None,
        format: Words | None = None,
        tags: Words | None = None,
        verdict: Verdict | str | Iterable[Verdict | str] | None = None,
        text: str = "",
        filter: str = "",
        order_by: str = "",
        missing: bool = False,
        page_size: int = 1_000,
    ) -> AsyncIterator[Model]:
        """See `hoist.Client.models`."""
        request = _plans_models.models_request(
            type, base, format, tags, verdict, text, filter, order_by, missing, page_size
        )
        return self._pages(lambda token: _plans_models.models_page(request, token))

    async def model(self, name: Name, *, details: bool = False, tensors: bool = False) -> Model:
        """See `hoist.Client.model`."""
        return await self._run(_plans_models.model(name, details, tensors))

    async def update_model(
        self,
        name: Name,
        *,
        display_name: str | None = None,
        aliases: Iterable[str] | None = None,
        tags: Iterable[str] | None = None,
        description: str | None = None,
        licence: str | None = None,
        source: str | None = None,
        notes: str | None = None,
        type_override: str | None = None,
        base_override: str | None = None,
        type: str | None = None,
        base: str | None = None,
        default_device: str | None = None,
        trusted: bool | None = None,
        cache_priority: Priority | str | None = None,
        cache_idle_ttl: Time | None = None,
        pinned: bool | None = None,
        pinned_components: Words | None = None,
        any_base: bool = False,
        etag: str | None = None,
        request_id: str | None = None,
    ) -> Model:
        """See `hoist.Client.update_model`."""
        texts = {
            "display_name": display_name,
            "description": description,
            "licence": licence,
            "source": source,
            "notes": notes,
            "type_override": _plans_models.either("type_override", type_override, "type", type),
            "base_override": _plans_models.either("base_override", base_override, "base", base),
        }
        lists = {"aliases": aliases, "tags": tags}
        cache = _plans_models.CacheEdits(cache_priority, cache_idle_ttl, pinned, pinned_components)
        return await self._run(
            _plans_models.update_model(
                name, texts, lists, default_device, trusted, any_base, etag, request_id, cache
            )
        )

    async def delete_model(
        self, name: Name, *, files: bool = False, etag: str | None = None, request_id: str | None = None
    ) -> DeletedModel:
        """See `hoist.Client.delete_model`."""
        return await self._run(_plans_models.delete_model(name, files, etag, request_id))

    @overload
    async def scan(
        self,
        paths: Iterable[Name] | None = None,
        *,
        reread: bool = False,
        max_depth: int | None = None,
        validate: bool = False,
        wait: Literal[True] = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> ScanResult: ...

    @overload
    async def scan(
        self,
        paths: Iterable[Name] | None = None,
        *,
        reread: bool = False,
        max_depth: int | None = None,
        validate: bool = False,
        wait: Literal[False],
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> AsyncOperation[ScanResult]: ...

    async def scan(
        self,
        paths: Iterable[Name] | None = None,
        *,
        reread: bool = False,
        max_depth: int | None = None,
        validate: bool = False,
        wait: bool = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> ScanResult | AsyncOperation[ScanResult]:
        """See `hoist.Client.scan`."""
        plan = _plans_models.scan(paths, reread, max_depth, validate, deadline, request_id)
        operation: AsyncOperation[ScanResult] = AsyncOperation(self, await self._run(plan))
        return await operation.result(on_progress=on_progress) if wait else operation

    @overload
    async def digest(
        self,
        names: Iterable[Name] | None = None,
        *,
        wait: Literal[True] = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> DigestResult: ...

    @overload
    async def digest(
        self,
        names: Iterable[Name] | None = None,
        *,
        wait: Literal[False],
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> AsyncOperation[DigestResult]: ...

    async def digest(
        self,
        names: Iterable[Name] | None = None,
        *,
        wait: bool = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> DigestResult | AsyncOperation[DigestResult]:
        """See `hoist.Client.digest`."""
        plan = _plans_models.digest(names, deadline, request_id)
        operation: AsyncOperation[DigestResult] = AsyncOperation(self, await self._run(plan))
        return await operation.result(on_progress=on_progress) if wait else operation

    @overload
    async def validate(
        self,
        name: Name,
        level: ValidationLevel | str = ValidationLevel.FULL,
        *,
        device: str = "",
        checksums: bool = False,
        sha256: str = "",
        wait: Literal[True] = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> ValidationResult: ...

    @overload
    async def validate(
        self,
        name: Name,
        level: ValidationLevel | str = ValidationLevel.FULL,
        *,
        device: str = "",
        checksums: bool = False,
        sha256: str = "",
        wait: Literal[False],
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> AsyncOperation[ValidationResult]: ...

    async def validate(
        self,
        name: Name,
        level: ValidationLevel | str = ValidationLevel.FULL,
        *,
        device: str = "",
        checksums: bool = False,
        sha256: str = "",
        wait: bool = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> ValidationResult | AsyncOperation[ValidationResult]:
        """See `hoist.Client.validate`."""
        plan = _plans_models.validate(name, level, device, checksums, sha256, deadline, request_id)
        operation: AsyncOperation[ValidationResult] = AsyncOperation(self, await self._run(plan))
        return await operation.result(on_progress=on_progress) if wait else operation

    def verdicts(
        self, filter: str = "", *, ok: bool = False, missing: bool = False, page_size: int = 1_000
    ) -> AsyncIterator[ModelVerdict]:
        """See `hoist.Client.verdicts`."""
        request = _plans_models.verdicts_request(filter, ok, missing, page_size)
        return self._pages(lambda token: _plans_models.verdicts_page(request, token))

    async def roots(self) -> list[Root]:
        """See `hoist.Client.roots`."""
        return await self._run(_plans_models.roots())

    def components(
        self, type: str = "", *, shared: bool = False, page_size: int = 1_000
    ) -> AsyncIterator[ComponentGroup]:
        """See `hoist.Client.components`."""
        request = _plans_models.components_request(type, shared, page_size)
        return self._pages(lambda token: _plans_models.components_page(request, token))
