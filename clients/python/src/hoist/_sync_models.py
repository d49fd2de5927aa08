"""The calls about models of the client that blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, overload

from hoist import _plans_models
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
from hoist._sync_calls import Calls
from hoist._sync_operation import Operation
from hoist._types import Progress


class ModelCalls(Calls):
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
    ) -> Iterator[Model]:
        """The models that pass, page by page.

        `type`, `base`, `format` and `verdict`: a word, or several of which one must fit; `*` at an end stands
        for anything. `tags`: all of them. `text`: words that all occur in names, tags, title, description or
        path. `filter`: `size_bytes < 2e9 AND NOT tags:*`. `order_by`: `size_bytes desc`. `missing`: also
        those whose files have gone.
        """
        request = _plans_models.models_request(
            type, base, format, tags, verdict, text, filter, order_by, missing, page_size
        )
        return self._pages(lambda token: _plans_models.models_page(request, token))

    def model(self, name: Name, *, details: bool = False, tensors: bool = False) -> Model:
        """One model: by `models/{uuid}`, name, alias, file name, path, or the start of a component's digest.

        `details` reads its headers again, for evidence, metadata and files; `tensors` also for the table of
        tensors. An ambiguous name is an `Error` with reason NAME_AMBIGUOUS.
        """
        return self._run(_plans_models.model(name, details, tensors))

    def update_model(
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
        """Changes what people say about a model; what is None stays as it is, what is empty is cleared.

        With the `etag` of a model that was read before: `Refused`, with reason ETAG_MISMATCH, if somebody
        else has edited it since. A `base_override` that neither Hoist nor any model here knows is refused,
        with what is near, unless `any_base` says that it is meant. `type` and `base` are other words for
        `type_override` and `base_override`.
        """
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
        return self._run(
            _plans_models.update_model(
                name, texts, lists, default_device, trusted, any_base, etag, request_id, cache
            )
        )

    def delete_model(
        self, name: Name, *, files: bool = False, etag: str | None = None, request_id: str | None = None
    ) -> DeletedModel:
        """Takes a model out of the catalog, and with `files` its files off the disk.

        Without `files`, a scan finds it again as long as they are there.
        """
        return self._run(_plans_models.delete_model(name, files, etag, request_id))

    @overload
    def scan(
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
    def scan(
        self,
        paths: Iterable[Name] | None = None,
        *,
        reread: bool = False,
        max_depth: int | None = None,
        validate: bool = False,
        wait: Literal[False],
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> Operation[ScanResult]: ...

    def scan(
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
    ) -> ScanResult | Operation[ScanResult]:
        """Looks for models now, below all roots or at `paths`; `reread` also what has not changed.

        `max_depth` is how many folders deep to look, 1 being the folder itself; `validate` also looks at
        every byte.
        As with `probe`: `wait=False` returns the operation at once, and going away does not stop it.
        """
        plan = _plans_models.scan(paths, reread, max_depth, validate, deadline, request_id)
        operation: Operation[ScanResult] = Operation(self, self._run(plan))
        return operation.result(on_progress=on_progress) if wait else operation

    @overload
    def digest(
        self,
        names: Iterable[Name] | None = None,
        *,
        wait: Literal[True] = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> DigestResult: ...

    @overload
    def digest(
        self,
        names: Iterable[Name] | None = None,
        *,
        wait: Literal[False],
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> Operation[DigestResult]: ...

    def digest(
        self,
        names: Iterable[Name] | None = None,
        *,
        wait: bool = True,
        on_progress: Callable[[Progress], object] | None = None,
        deadline: Time | None = None,
        request_id: str | None = None,
    ) -> DigestResult | Operation[DigestResult]:
        """Reads models' bytes and keeps the digests of their components; without `names`, of all without one.

        The server does the latter by itself, at idle priority. See `scan` for `wait`.
        """
        plan = _plans_models.digest(names, deadline, request_id)
        operation: Operation[DigestResult] = Operation(self, self._run(plan))
        return operation.result(on_progress=on_progress) if wait else operation

    @overload
    def validate(
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
    def validate(
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
    ) -> Operation[ValidationResult]: ...

    def validate(
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
    ) -> ValidationResult | Operation[ValidationResult]:
        """Looks into a model: its headers, every byte of it, or whether a `device` can take it.

        A damaged model is no failure: look at `verdict` of the result, and `verdict.loadable`. `sha256`: what
        that of a model of one file should be. `checksums`: tell those of all files. See `scan` for `wait`.
        """
        plan = _plans_models.validate(name, level, device, checksums, sha256, deadline, request_id)
        operation: Operation[ValidationResult] = Operation(self, self._run(plan))
        return operation.result(on_progress=on_progress) if wait else operation

    def verdicts(
        self, filter: str = "", *, ok: bool = False, missing: bool = False, page_size: int = 1_000
    ) -> Iterator[ModelVerdict]:
        """What is wrong with models, worst first.

        With `ok` also those that nothing is wrong with, with `missing` also those whose files are missing.
        """
        request = _plans_models.verdicts_request(filter, ok, missing, page_size)
        return self._pages(lambda token: _plans_models.verdicts_page(request, token))

    def roots(self) -> list[Root]:
        """Where models are looked for."""
        return self._run(_plans_models.roots())

    def components(
        self, type: str = "", *, shared: bool = False, page_size: int = 1_000
    ) -> Iterator[ComponentGroup]:
        """Components over all models, equal ones together; `shared`: only those of several models."""
        request = _plans_models.components_request(type, shared, page_size)
        return self._pages(lambda token: _plans_models.components_page(request, token))
