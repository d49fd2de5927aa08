"""From messages about models to values."""

from __future__ import annotations

from collections.abc import Iterable

from hoist._enums import (
    CheckCategory,
    CheckResult,
    FindingKind,
    ModelState,
    Priority,
    ValidationLevel,
    Verdict,
)
from hoist._enums import decode as enum
from hoist._models import (
    Compatibility,
    CompatibilityCheck,
    ComponentGroup,
    ComponentUser,
    DeletedModel,
    DigestResult,
    Evidence,
    FileChecksum,
    Finding,
    Model,
    ModelComponent,
    ModelConfig,
    ModelDetails,
    ModelFile,
    ModelNotes,
    ModelVerdict,
    PathProblem,
    Root,
    ScanResult,
    TensorInfo,
    ValidationResult,
)
from hoist._proto.v1 import catalog_service_pb2 as catalog
from hoist._proto.v1 import integrity_service_pb2 as integrity
from hoist._proto.v1 import model_pb2
from hoist._times import span, span_if, time, time_if


def finding(message: model_pb2.Finding) -> Finding:
    return Finding(
        kind=enum(FindingKind, message.kind),
        verdict=enum(Verdict, message.verdict),
        message=message.message,
        advice=message.advice,
        tensor=message.tensor,
        offset=message.offset if message.HasField("offset") else None,
        file=message.file,
    )


def findings(messages: Iterable[model_pb2.Finding]) -> tuple[Finding, ...]:
    return tuple(map(finding, messages))


def component(message: model_pb2.ModelComponent) -> ModelComponent:
    return ModelComponent(
        name=message.name,
        type=message.type,
        base=message.base,
        place=message.place,
        prefix=message.prefix,
        tensor_count=message.tensor_count,
        parameter_count=message.parameter_count,
        size_bytes=message.size_bytes,
        digest=message.digest,
    )


def notes(message: model_pb2.ModelNotes) -> ModelNotes:
    return ModelNotes(
        display_name=message.display_name,
        aliases=tuple(message.aliases),
        tags=tuple(message.tags),
        description=message.description,
        licence=message.licence,
        source=message.source,
        notes=message.notes,
        type_override=message.type_override,
        base_override=message.base_override,
        config=config(message.config),
    )


def config(message: model_pb2.ModelConfig) -> ModelConfig:
    return ModelConfig(
        default_device=message.default_device,
        trusted=message.trusted,
        cache_priority=enum(Priority, message.cache_priority),
        cache_idle_ttl=span_if(message, "cache_idle_ttl"),
        pinned=message.pinned,
        pinned_components=tuple(message.pinned_components),
    )


def model(message: model_pb2.Model, details: catalog.ModelDetails | None = None) -> Model:
    return Model(
        name=message.name,
        display_name=message.display_name,
        # What is not UTF-8 comes as bytes beside the text; so Python can open it.
        path=message.path_bytes.decode("utf-8", "surrogateescape") if message.path_bytes else message.path,
        state=enum(ModelState, message.state),
        format=message.format,
        type=message.type,
        base=message.base,
        variant=message.variant,
        candidates=tuple(message.candidates),
        # A single float says 0.949999988 for 0.95; the server counts in hundredths.
        confidence=round(message.confidence, 2),
        prediction_type=message.prediction_type,
        resolution=message.resolution,
        title=message.title,
        tensor_count=message.tensor_count,
        parameter_count=message.parameter_count,
        dtypes={each.dtype: each.count for each in message.dtypes},
        size_bytes=message.size_bytes,
        components=tuple(map(component, message.components)),
        verdict=enum(Verdict, message.verdict),
        findings=findings(message.findings),
        notes=notes(message.notes),
        etag=message.etag,
        discover_time=time(message.discover_time),
        modify_time=time_if(message, "modify_time"),
        read_time=time_if(message, "read_time"),
        validate_time=time_if(message, "validate_time"),
        details=None if details is None else model_details(details),
    )


def model_details(message: catalog.ModelDetails) -> ModelDetails:
    return ModelDetails(
        evidence=tuple(Evidence(each.source, each.subject, each.says) for each in message.evidence),
        metadata=dict(message.metadata),
        files=tuple(
            ModelFile(each.path, each.size_bytes, each.weights, time_if(each, "modify_time"))
            for each in message.files
        ),
        tensors=tuple(
            TensorInfo(each.name, each.dtype, tuple(each.shape), each.component) for each in message.tensors
        ),
        globals=tuple(message.globals),
        more_tensors=message.more_tensors,
    )


def deleted(message: catalog.DeleteModelResponse) -> DeletedModel:
    return DeletedModel(
        model(message.model) if message.HasField("model") else None,
        message.files_deleted,
    )


def problems(messages: Iterable[catalog.PathProblem]) -> tuple[PathProblem, ...]:
    return tuple(PathProblem(each.path, each.message) for each in messages)


def scan(message: catalog.ScanModelsResponse) -> ScanResult:
    return ScanResult(
        directories=message.directories,
        files=message.files,
        models=message.models,
        added=message.added,
        changed=message.changed,
        moved=message.moved,
        unchanged=message.unchanged,
        missing=message.missing,
        damaged=message.damaged,
        validated=message.validated,
        skipped=dict(message.skipped),
        by_type=dict(message.by_type),
        size_bytes=message.size_bytes,
        header_bytes=message.header_bytes,
        took=span(message.took),
        problems=problems(message.problems),
        more_problems=message.more_problems,
    )


def digest(message: catalog.DigestModelsResponse) -> DigestResult:
    return DigestResult(
        models=message.models,
        components=message.components,
        read_bytes=message.read_bytes,
        took=span(message.took),
        problems=problems(message.problems),
        more_problems=message.more_problems,
    )


def validation(message: integrity.ValidateModelResponse) -> ValidationResult:
    return ValidationResult(
        model=message.model,
        level=enum(ValidationLevel, message.level),
        verdict=enum(Verdict, message.verdict),
        findings=findings(message.findings),
        more_findings=message.more_findings,
        read_bytes=message.read_bytes,
        took=span(message.took),
        checksums=tuple(
            FileChecksum(each.file, each.sha256, each.expected_sha256, each.source)
            for each in message.checksums
        ),
        compatibility=compatibility(message.compatibility) if message.HasField("compatibility") else None,
    )


def compatibility(message: integrity.Compatibility) -> Compatibility:
    return Compatibility(
        device=message.device,
        compatible=message.compatible,
        needed_bytes=message.needed_bytes,
        capacity_bytes=message.capacity_bytes,
        checks=tuple(
            CompatibilityCheck(
                enum(CheckCategory, each.category), enum(CheckResult, each.result), each.message, each.advice
            )
            for each in message.checks
        ),
    )


def verdict(message: integrity.ModelVerdict) -> ModelVerdict:
    return ModelVerdict(
        model=message.model,
        display_name=message.display_name,
        path=message.path,
        verdict=enum(Verdict, message.verdict),
        findings=findings(message.findings),
        validate_time=time_if(message, "validate_time"),
        state=enum(ModelState, message.state),
    )


def root(message: catalog.Root) -> Root:
    return Root(
        path=message.path,
        available=message.available,
        problem=message.problem,
        watched=message.watched,
        models=message.models,
        size_bytes=message.size_bytes,
        scan_time=time_if(message, "scan_time"),
        scan_took=span_if(message, "scan_took"),
    )


def component_group(message: catalog.ComponentGroup) -> ComponentGroup:
    return ComponentGroup(
        component=component(message.component),
        users=tuple(
            ComponentUser(each.model, each.display_name, each.component, each.path) for each in message.users
        ),
        saved_bytes=message.saved_bytes,
    )
