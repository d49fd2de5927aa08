"""Client of Hoist, the server that keeps model weights ready in memory.

    with hoist.connect() as client:
        print(client.status().machine)

`hoist.aio` has the same for asyncio.
"""

from hoist import aio
from hoist._enums import (
    Code,
    ConfigOrigin,
    MachineState,
    MeasurementKind,
    OperationKind,
    OperationState,
    ResourceKind,
    Severity,
)
from hoist._errors import (
    Error,
    NotFound,
    OperationCancelled,
    OperationFailed,
    Refused,
    TimedOut,
    Unreachable,
)
from hoist._events import Changed, Event, Mark, ProgressSample, Removed, Snapshot
from hoist._sync import Client, Operation, Watch, connect
from hoist._types import (
    Condition,
    ConfigEntry,
    Machine,
    MachineStatus,
    Measurement,
    OperationMetadata,
    Position,
    ProbeResult,
    Progress,
    Resource,
    Status,
)

__all__ = [
    "Changed",
    "Client",
    "Code",
    "Condition",
    "ConfigEntry",
    "ConfigOrigin",
    "Error",
    "Event",
    "Machine",
    "MachineState",
    "MachineStatus",
    "Mark",
    "Measurement",
    "MeasurementKind",
    "NotFound",
    "Operation",
    "OperationCancelled",
    "OperationFailed",
    "OperationKind",
    "OperationMetadata",
    "OperationState",
    "Position",
    "ProbeResult",
    "Progress",
    "ProgressSample",
    "Refused",
    "Removed",
    "Resource",
    "ResourceKind",
    "Severity",
    "Snapshot",
    "Status",
    "TimedOut",
    "Unreachable",
    "Watch",
    "aio",
    "connect",
]
