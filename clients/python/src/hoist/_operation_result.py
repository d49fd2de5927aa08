"""What operations produce, as a type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hoist._cache import CacheResult
from hoist._models import DigestResult, ScanResult, ValidationResult
from hoist._residency import LoadResult, UnloadResult
from hoist._types import ProbeResult

Result = ProbeResult | ScanResult | DigestResult | ValidationResult | CacheResult | LoadResult | UnloadResult

if TYPE_CHECKING:
    # Its default lets people write `Operation` where they do not care; at run time nobody asks.
    from typing_extensions import TypeVar

    R = TypeVar("R", bound=Result, covariant=True, default=Result)
else:
    from typing import TypeVar

    R = TypeVar("R", covariant=True)
