"""From messages about devices to the values of `hoist._devices`."""

from __future__ import annotations

from hoist._devices import Device, Worker
from hoist._enums import DeviceState, WorkerState
from hoist._enums import decode as enum
from hoist._proto.v1 import resources_pb2
from hoist._times import time


def worker(message: resources_pb2.Worker) -> Worker:
    return Worker(
        state=enum(WorkerState, message.state),
        worker_id=message.worker_id,
        incarnation=message.incarnation,
        process_id=message.process_id or None,
        release=message.release,
        supervised=message.supervised,
        restarts=message.restarts,
        problem=message.problem,
        state_time=time(message.state_time),
    )


def device(message: resources_pb2.Device) -> Device:
    return Device(
        name=message.name,
        device_id=message.device_id,
        state=enum(DeviceState, message.state),
        model=message.model,
        capacity_bytes=message.capacity_bytes,
        used_bytes=message.used_bytes,
        free_bytes=message.free_bytes,
        mapped_bytes=message.mapped_bytes,
        maps_segments=message.maps_segments,
        dtypes=tuple(message.dtypes),
        libraries=tuple(message.libraries),
        worker=worker(message.worker),
        cordoned=message.cordoned,
        cordon_reason=message.cordon_reason,
        granularity_bytes=message.granularity_bytes,
        alignment_bytes=message.alignment_bytes,
        others_bytes=message.others_bytes,
        problem=message.problem,
        lent_bytes=message.lent_bytes,
        lent_processes=message.lent_processes,
        bus_bytes_per_second=message.bus_bytes_per_second,
        memory_node=message.memory_node if message.HasField("memory_node") else None,
    )
