"""What a watch yields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hoist._types import Position, Progress, Resource


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything there is, as of `position`. Whatever was known before is void: gone is what is not in it."""

    position: Position
    resources: Mapping[str, Resource]
    """By name."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A resource is new, now passes the filter, or changed."""

    position: Position
    """Of the change. Others may have happened with it: to go on later, keep `position` of the watch."""
    resource: Resource
    """As it is now."""
    fields: frozenset[str]
    """Paths in the contract's Resource that changed: `operation.state`. Empty: it was not there before."""
    whole: bool
    """False only after `since`, for a resource not seen before: then only `fields` are set."""


@dataclass(frozen=True, slots=True)
class Removed:
    """A resource is gone, or no longer passes the filter."""

    position: Position
    name: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Nothing more happened up to here."""

    position: Position


@dataclass(frozen=True, slots=True)
class ProgressSample:
    """How far running operations are."""

    operations: Mapping[str, Progress]
    """By the operation's name, at most 1,000."""


Event = Snapshot | Changed | Removed | Mark | ProgressSample
