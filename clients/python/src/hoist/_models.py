"""What the server tells about models, as frozen values. Times are aware and in UTC; sizes are bytes.

Types, bases, formats and element types are words: their vocabularies grow with what writes models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from hoist._enums import (
    CheckCategory,
    CheckResult,
    FindingKind,
    ModelState,
    Priority,
    ValidationLevel,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or odd, about a model."""

    kind: FindingKind
    verdict: Verdict
    """What this finding alone makes of the model. OK: a remark."""
    message: str
    advice: str
    tensor: str
    """Empty: about none."""
    offset: int | None
    """In bytes. None: not at one place."""
    file: str
    """Within the model. Empty: the model is one file, or it is about all of it."""


@dataclass(frozen=True, slots=True)
class ModelComponent:
    """A part of a model that is cached, shared and loaded on its own."""

    name: str
    type: str
    base: str
    place: str
    """The sub-folder that holds it. Empty: the model's own place."""
    prefix: str
    """What its keys begin with in the file."""
    tensor_count: int
    parameter_count: int
    size_bytes: int
    digest: str
    """Equal components have equal digests. Empty until its bytes have been read."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """How a model is to be handled where a request does not say."""

    default_device: str
    """Empty: wherever it fits best."""
    trusted: bool
    """Somebody vouches for the code in it."""
    cache_priority: Priority = Priority.UNSPECIFIED
    """How much it matters in RAM where a request does not say. UNSPECIFIED: as the cache's policy says."""
    cache_idle_ttl: timedelta | None = None
    """As `CachePolicy.idle_ttl`. None: as the cache's policy says."""
    pinned: bool = False
    """Once in RAM its components stay there."""
    pinned_components: tuple[str, ...] = ()
    """Only these do. Empty: all, if `pinned`."""


@dataclass(frozen=True, slots=True)
class ModelNotes:
    """What people say about a model. It wins over what the files say, and stays through moves."""

    display_name: str
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    description: str
    licence: str
    source: str
    notes: str
    type_override: str
    base_override: str
    config: ModelConfig


@dataclass(frozen=True, slots=True)
class Model:
    """A model in the catalog."""

    name: str
    """`models/{uuid}`; it stays through moves, renames and edits."""
    display_name: str
    """What people call it. Not unique."""
    path: str
    """Absolute. What is not UTF-8 in it stands as `os.fsdecode` writes it: `open(path)` opens it."""
    state: ModelState
    format: str
    type: str
    base: str
    variant: str
    candidates: tuple[str, ...]
    """Bases that the files cannot tell apart, likeliest first. Empty: `base` is certain."""
    confidence: float
    prediction_type: str
    resolution: int
    """Edge in pixels that it was made for. 0: not to be told."""
    title: str
    tensor_count: int
    parameter_count: int
    dtypes: Mapping[str, int]
    """Tensors of each element type, most first."""
    size_bytes: int
    components: tuple[ModelComponent, ...]
    verdict: Verdict
    findings: tuple[Finding, ...]
    """Worst first."""
    notes: ModelNotes
    etag: str
    """Names this state of `notes`: give it to `update_model` to be sure that no other edit is overwritten."""
    discover_time: datetime
    modify_time: datetime | None
    read_time: datetime | None
    validate_time: datetime | None
    """When every byte of it was last looked at. None: never since the bytes changed."""
    details: ModelDetails | None = None
    """Only from `model(..., details=True)`."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Words to find it by."""
        return self.notes.tags

    @property
    def verdict_kind(self) -> FindingKind | None:
        """Where the trouble lies that decides the verdict. None: nothing is wrong."""
        if self.verdict is Verdict.OK:
            return None
        return next((each.kind for each in self.findings if each.verdict is self.verdict), None)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that speaks for the identification."""

    source: str
    subject: str
    says: str


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file that belongs to a model."""

    path: str
    """Below the model's path. Empty: the model is this file."""
    size_bytes: int
    weights: bool
    modify_time: datetime | None


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor as its header describes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    component: str


@dataclass(frozen=True, slots=True)
class ModelDetails:
    """What the headers say beyond what the catalog keeps."""

    evidence: tuple[Evidence, ...]
    metadata: Mapping[str, str]
    files: tuple[ModelFile, ...]
    tensors: tuple[TensorInfo, ...]
    globals: tuple[str, ...]
    """Names that its pickles would import."""
    more_tensors: int
    """Tensors that did not fit into the answer."""


@dataclass(frozen=True, slots=True)
class DeletedModel:
    """What `delete_model` did."""

    model: Model | None
    """As it was. None: a repeated request, and it had gone before."""
    files_deleted: int


@dataclass(frozen=True, slots=True)
class PathProblem:
    """A path that could not be read, and why."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What a scan came across."""

    directories: int
    files: int
    models: int
    added: int
    changed: int
    moved: int
    unchanged: int
    missing: int
    damaged: int
    """Models with a verdict other than OK."""
    validated: int
    """Models of which every byte was looked at."""
    skipped: Mapping[str, int]
    """Entries that were passed over, by the reason."""
    by_type: Mapping[str, int]
    size_bytes: int
    header_bytes: int
    took: timedelta
    problems: tuple[PathProblem, ...]
    more_problems: int


@dataclass(frozen=True, slots=True)
class DigestResult:
    """What was read to make digests."""

    models: int
    components: int
    read_bytes: int
    took: timedelta
    problems: tuple[PathProblem, ...]
    more_problems: int


@dataclass(frozen=True, slots=True)
class FileChecksum:
    """The SHA-256 of a file, in hexadecimal."""

    file: str
    """Within the model. Empty: the model is this file."""
    sha256: str
    expected_sha256: str
    """Empty: nothing says."""
    source: str
    """Who says what it should be."""


@dataclass(frozen=True, slots=True)
class CompatibilityCheck:
    """One condition that a device or a format must meet."""

    category: CheckCategory
    result: CheckResult
    message: str
    advice: str


@dataclass(frozen=True, slots=True)
class Compatibility:
    """Whether a device can take a model."""

    device: str
    compatible: bool
    needed_bytes: int
    capacity_bytes: int
    checks: tuple[CompatibilityCheck, ...]


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """What a validation found. A damaged model is no failure of the validation: look at `verdict`."""

    model: str
    level: ValidationLevel
    verdict: Verdict
    findings: tuple[Finding, ...]
    more_findings: int
    read_bytes: int
    took: timedelta
    checksums: tuple[FileChecksum, ...]
    compatibility: Compatibility | None
    """Only for the level COMPATIBILITY."""


@dataclass(frozen=True, slots=True)
class ModelVerdict:
    """What is known of one model's soundness."""

    model: str
    display_name: str
    path: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    validate_time: datetime | None
    state: ModelState


@dataclass(frozen=True, slots=True)
class Root:
    """A folder below which models are looked for."""

    path: str
    available: bool
    problem: str
    watched: bool
    """Changes are told by the kernel. False: they are found by looking every now and then."""
    models: int
    size_bytes: int
    scan_time: datetime | None
    scan_took: timedelta | None


@dataclass(frozen=True, slots=True)
class ComponentUser:
    """A model that has a component."""

    model: str
    display_name: str
    component: str
    """Its name in that model."""
    path: str
    """The model's. What is not UTF-8 in it is U+FFFD: `client.model(user.model).path` is exact."""


@dataclass(frozen=True, slots=True)
class ComponentGroup:
    """Components that are equal: all have the same digest."""

    component: ModelComponent
    """As in the first user."""
    users: tuple[ComponentUser, ...]
    saved_bytes: int
    """What sharing saves in RAM."""
