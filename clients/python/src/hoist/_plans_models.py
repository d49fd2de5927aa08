"""What each call about models does, without I/O, as in `_plans`. Arguments are judged before sending."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from hoist import _decode, _decode_models, _methods
from hoist._enums import Priority, ValidationLevel, Verdict, encode
from hoist._models import ComponentGroup, DeletedModel, Model, ModelVerdict, Root
from hoist._plans import Plan, chosen_id, fresh_id, unary
from hoist._proto.v1 import catalog_service_pb2 as catalog
from hoist._proto.v1 import integrity_service_pb2 as integrity
from hoist._proto.v1 import model_pb2
from hoist._quantities import Time

Words = str | Iterable[str]
Name = str | os.PathLike[str]


def quoted(value: str) -> str:
    """A value that a filter reads as it was written. Only a bare word can have `*` for anything."""
    bare = all(each.isalnum() or each in "._-+*/" for each in value)
    if bare and (value.startswith("*") or value.endswith("*")):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def some(argument: str, values: Words | None) -> tuple[str, ...]:
    """One word, or several."""
    return (values,) if isinstance(values, str) else _decode.words(argument, values)


def _any(argument: str, values: Words | None) -> str:
    return " OR ".join(f"{argument} = {quoted(each)}" for each in some(argument, values))


def page_limit(value: int) -> int:
    return min(_decode.number("page_size", value, least=1), 1_000)


def models_request(
    type: Words | None,
    base: Words | None,
    format: Words | None,
    tags: Words | None,
    verdict: Verdict | str | Iterable[Verdict | str] | None,
    text: str,
    filter: str,
    order_by: str,
    missing: bool,
    page_size: int,
) -> catalog.ListModelsRequest:
    """One filter out of all; OR binds closer than AND there, so nothing needs parentheses."""
    verdicts = [encode(Verdict, each).removeprefix("VERDICT_").lower() for each in some("verdict", verdict)]
    terms = [_any("type", type), _any("base", base), _any("format", format), _any("verdict", verdicts)]
    terms += [f"tags:{quoted(each)}" for each in some("tags", tags)]
    terms.append(_decode.word("filter", filter).strip())
    return catalog.ListModelsRequest(
        filter=" AND ".join(filter_term for filter_term in terms if filter_term),
        query=_decode.word("text", text),
        order_by=_decode.word("order_by", order_by),
        page_size=page_limit(page_size),
        show_missing=flag("missing", missing),
    )


def models_page(request: catalog.ListModelsRequest, token: str) -> Plan[tuple[list[Model], str]]:
    request.request_id, request.page_token = fresh_id(), token
    answer = yield from unary(_methods.LIST_MODELS, request)
    return [_decode_models.model(each) for each in answer.models], answer.next_page_token


def model(name: Name, details: bool, tensors: bool) -> Plan[Model]:
    request = catalog.GetModelRequest(
        request_id=fresh_id(),
        name=model_name("name", name),
        # Tensors are a part of the details.
        details=flag("details", details) or tensors,
        tensors=flag("tensors", tensors),
    )
    answer = yield from unary(_methods.GET_MODEL, request)
    return _decode_models.model(answer.model, answer.details if answer.HasField("details") else None)


def either(field: str, value: str | None, other: str, synonym: str | None) -> str | None:
    """What one of two words for the same says."""
    if value is not None and synonym is not None:
        raise ValueError(f"{other} is another word for {field}: give one of them")
    return synonym if value is None else value


@dataclass(frozen=True)
class CacheEdits:
    """What people want of a model in RAM. As with all notes, None leaves it, and what is empty clears it."""

    priority: Priority | str | None = None
    idle_ttl: Time | None = None
    pinned: bool | None = None
    pinned_components: Words | None = None

    def apply(self, config: model_pb2.ModelConfig) -> list[str]:
        """Sets what is given, and says what that was."""
        paths = []
        if self.priority is not None:
            if self.priority:
                wire = encode(Priority, self.priority)
                config.MergeFrom(model_pb2.ModelConfig(cache_priority=wire))
            paths.append("config.cache_priority")
        if self.idle_ttl is not None:
            ttl = _decode.to_span("cache_idle_ttl", None if self.idle_ttl == "" else self.idle_ttl)
            config.MergeFrom(model_pb2.ModelConfig(cache_idle_ttl=ttl))
            paths.append("config.cache_idle_ttl")
        if self.pinned is not None:
            config.pinned = flag("pinned", self.pinned)
            paths.append("config.pinned")
        if self.pinned_components is not None:
            config.pinned_components.extend(some("pinned_components", self.pinned_components))
            paths.append("config.pinned_components")
        return paths


def update_model(
    name: Name,
    texts: Mapping[str, str | None],
    lists: Mapping[str, Iterable[str] | None],
    default_device: str | None,
    trusted: bool | None,
    any_base: bool,
    etag: str | None,
    request_id: str | None,
    cache: CacheEdits | None = None,
) -> Plan[Model]:
    """What is None stays as it is; nothing at all is a ValueError."""
    notes = model_pb2.ModelNotes()
    paths = []
    for field, text in texts.items():
        if text is not None:
            setattr(notes, field, _decode.word(field, text))
            paths.append(field)
    for field, values in lists.items():
        if values is not None:
            getattr(notes, field).extend(_decode.words(field, values))
            paths.append(field)
    if default_device is not None:
        notes.config.default_device = _decode.word("default_device", default_device)
        paths.append("config.default_device")
    if trusted is not None:
        notes.config.trusted = flag("trusted", trusted)
        paths.append("config.trusted")
    if cache is not None:
        paths += cache.apply(notes.config)
    if not paths:
        raise ValueError("there is nothing to change: give at least one field")
    request = catalog.UpdateModelRequest(
        request_id=chosen_id(request_id),
        name=model_name("name", name),
        notes=notes,
        update_mask=FieldMask(paths=paths),
        etag=_decode.word("etag", etag or ""),
        any_base=flag("any_base", any_base),
    )
    answer = yield from unary(_methods.UPDATE_MODEL, request)
    return _decode_models.model(answer.model)


def delete_model(name: Name, files: bool, etag: str | None, request_id: str | None) -> Plan[DeletedModel]:
    request = catalog.DeleteModelRequest(
        request_id=chosen_id(request_id),
        name=model_name("name", name),
        etag=_decode.word("etag", etag or ""),
        delete_files=flag("files", files),
    )
    return _decode_models.deleted((yield from unary(_methods.DELETE_MODEL, request)))


def scan(
    paths: Iterable[Name] | None,
    reread: bool,
    max_depth: int | None,
    validate: bool,
    deadline: Time | None,
    request_id: str | None,
) -> Plan[operations_pb2.Operation]:
    """Starts or joins a scan."""
    if isinstance(paths, (str, os.PathLike)):
        raise TypeError(f"paths must be a list of paths, not {paths!r}")
    request = catalog.ScanModelsRequest(
        request_id=chosen_id(request_id),
        # The server does not know where this process stands.
        paths=[os.path.abspath(_path("paths", each)) for each in paths or ()],
        reread=flag("reread", reread),
        max_depth=_depth(max_depth),
        validation_level=model_pb2.VALIDATION_LEVEL_FULL
        if flag("validate", validate)
        else model_pb2.VALIDATION_LEVEL_UNSPECIFIED,
        deadline=_decode.to_span("deadline", deadline),
    )
    return (yield from unary(_methods.SCAN_MODELS, request))


def _depth(depth: int | None) -> int:
    if depth is None:
        return 0
    if isinstance(depth, bool) or not isinstance(depth, int):
        raise TypeError(f"max_depth must be a whole number, not {depth!r}")
    if not 1 <= depth < 1 << 32:
        raise ValueError(f"max_depth must be at least 1, not {depth}")
    return depth


def digest(
    names: Iterable[Name] | None, deadline: Time | None, request_id: str | None
) -> Plan[operations_pb2.Operation]:
    """Starts or joins the reading of bytes."""
    if isinstance(names, (str, os.PathLike)):
        raise TypeError(f"names must be a list of names, not {names!r}")
    request = catalog.DigestModelsRequest(
        request_id=chosen_id(request_id),
        names=[model_name("names", each) for each in names or ()],
        deadline=_decode.to_span("deadline", deadline),
    )
    return (yield from unary(_methods.DIGEST_MODELS, request))


def validate(
    name: Name,
    level: ValidationLevel | str,
    device: str,
    checksums: bool,
    sha256: str,
    deadline: Time | None,
    request_id: str | None,
) -> Plan[operations_pb2.Operation]:
    """Starts or joins a validation."""
    request = integrity.ValidateModelRequest(
        request_id=chosen_id(request_id),
        name=model_name("name", name),
        level=encode(ValidationLevel, level),
        device=_decode.word("device", device),
        checksums=flag("checksums", checksums),
        sha256=_decode.word("sha256", sha256),
        deadline=_decode.to_span("deadline", deadline),
    )
    return (yield from unary(_methods.VALIDATE_MODEL, request))


def verdicts_request(filter: str, ok: bool, missing: bool, page_size: int) -> integrity.ListVerdictsRequest:
    return integrity.ListVerdictsRequest(
        filter=_decode.word("filter", filter),
        show_ok=flag("ok", ok),
        show_missing=flag("missing", missing),
        page_size=page_limit(page_size),
    )


def verdicts_page(request: integrity.ListVerdictsRequest, token: str) -> Plan[tuple[list[ModelVerdict], str]]:
    request.request_id, request.page_token = fresh_id(), token
    answer = yield from unary(_methods.LIST_VERDICTS, request)
    return [_decode_models.verdict(each) for each in answer.verdicts], answer.next_page_token


def roots() -> Plan[list[Root]]:
    answer = yield from unary(_methods.LIST_ROOTS, catalog.ListRootsRequest(request_id=fresh_id()))
    return [_decode_models.root(each) for each in answer.roots]


def components_request(type: str, shared: bool, page_size: int) -> catalog.ListComponentsRequest:
    return catalog.ListComponentsRequest(
        type=_decode.word("type", type), shared_only=flag("shared", shared), page_size=page_limit(page_size)
    )


def components_page(
    request: catalog.ListComponentsRequest, token: str
) -> Plan[tuple[list[ComponentGroup], str]]:
    request.request_id, request.page_token = fresh_id(), token
    answer = yield from unary(_methods.LIST_COMPONENTS, request)
    return [_decode_models.component_group(each) for each in answer.groups], answer.next_page_token


def model_name(argument: str, value: Name) -> str:
    """What a model is called; a path object is a place from where this process stands."""
    name = os.path.abspath(_text(argument, value)) if isinstance(value, os.PathLike) else value
    if isinstance(name, str) and os.path.isabs(name) and not _decode.is_utf8(name):
        # The server finds it by what it shows of such a path, too: with U+FFFD for what is no text.
        name = os.fsencode(name).decode("utf-8", "replace")
    return _decode.word(argument, name)


def _path(argument: str, value: Name) -> str:
    """A path to look at. It has to be text: no request can carry another."""
    return _decode.word(argument, _text(argument, value))


def _text(argument: str, value: Name) -> str:
    path = os.fspath(value)
    if not isinstance(path, str):
        raise TypeError(f"{argument} must be a string or a path of one, not {value!r}")
    return path


def flag(argument: str, value: bool) -> bool:
    # A string is true, whatever it says.
    if not isinstance(value, bool):
        raise TypeError(f"{argument} must be True or False, not {value!r}")
    return value
