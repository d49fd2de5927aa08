"""The client against the real server."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TypeVar

import grpc
import pytest

import hoist
from hoist import MeasurementKind, OperationState, ResourceKind
from hoist._proto.v1 import state_service_pb2

from .conftest import Relay, Server

pytestmark = pytest.mark.integration

T = TypeVar("T", bound=hoist.Event)

SMALL = 16 << 20
# Seconds of copying on any machine, so that it is still running when the next call arrives.
LARGE = 256 << 30


def following(watch: Iterable[hoist.Event], kind: type[T], passes: Callable[[T], bool] = lambda _: True) -> T:
    """The next event of a kind that passes."""
    for event in watch:
        if isinstance(event, kind) and passes(event):
            return event
    raise AssertionError(f"the watch ended without the {kind.__name__}")


def in_state(name: str, state: OperationState) -> Callable[[hoist.Changed], bool]:
    def passes(event: hoist.Changed) -> bool:
        value = event.resource.value
        return (
            event.resource.name == name
            and isinstance(value, hoist.OperationMetadata)
            and value.state is state
        )

    return passes


def start_large(client: hoist.Client) -> hoist.Operation:
    return client.probe([MeasurementKind.MEMORY_COPY], bytes=LARGE, wait=False)


def test_status_of_the_machine(server: Server, client: hoist.Client) -> None:
    status = client.status()
    assert status.name == "machine"
    assert status.position.epoch > 0
    assert status.resource.kind is ResourceKind.MACHINE
    machine = status.resource.value
    assert isinstance(machine, hoist.Machine)
    assert machine.state is hoist.MachineState.SERVING
    assert machine.process_id == server.process.pid
    assert timedelta() <= datetime.now(timezone.utc) - machine.start_time < timedelta(minutes=5)
    assert status.machine is not None
    assert status.machine.request_ids_limit > 0


def test_one_bad_name_does_not_fail_the_others(client: hoist.Client) -> None:
    unknown = f"operations/{uuid.uuid4()}"
    machine, invalid, missing = client.statuses(["machine", "no such form", unknown])
    assert isinstance(machine, hoist.Status)
    assert isinstance(invalid, hoist.Error)
    assert (invalid.code, invalid.reason) == (hoist.Code.INVALID_ARGUMENT, "NAME_INVALID")
    assert isinstance(missing, hoist.NotFound)
    assert missing.reason == "RESOURCE_NOT_FOUND"


def test_errors_for_a_bad_name(client: hoist.Client) -> None:
    with pytest.raises(hoist.Error) as invalid:
        client.status("no such form")
    assert (invalid.value.code, invalid.value.reason) == (hoist.Code.INVALID_ARGUMENT, "NAME_INVALID")
    assert invalid.value.metadata["advice"]
    assert invalid.value.request_id
    unknown = f"operations/{uuid.uuid4()}"
    for call in (client.status, client.operation):
        with pytest.raises(hoist.NotFound) as missing:
            call(unknown)
        assert missing.value.reason == "RESOURCE_NOT_FOUND"


def test_a_watch_gives_a_snapshot_then_changes(client: hoist.Client) -> None:
    with client.watch(kinds=["OPERATION"]) as watch:
        snapshot = next(watch)
        assert isinstance(snapshot, hoist.Snapshot)
        assert snapshot.resources == {}
        operation = client.probe(["MEMORY_COPY"], bytes=SMALL, wait=False)
        first = following(watch, hoist.Changed)
        assert (first.resource.name, first.fields, first.whole) == (operation.name, frozenset(), True)
        last = following(watch, hoist.Changed, in_state(operation.name, OperationState.SUCCEEDED))
        assert last.fields
        # Merged from deltas, it is what the server says when asked for the whole.
        assert last.resource == client.status(operation.name).resource
        assert snapshot.position < first.position < last.position
        assert watch.position == last.position
        operation.delete()
        assert following(watch, hoist.Removed).name == operation.name


def test_a_watch_goes_on_after_a_position(client: hoist.Client) -> None:
    before = client.status().position
    client.probe(["MEMORY_COPY"], bytes=SMALL)
    with client.watch(kinds=["OPERATION"], since=before) as watch:
        event = following(watch, hoist.Changed)
        assert event.whole
        assert event.position > before


def test_a_quiet_watch_gets_marks_and_a_busy_one_progress(client: hoist.Client) -> None:
    with client.watch(names=["machine"], mark_interval=0.1) as watch:
        snapshot = following(watch, hoist.Snapshot)
        assert snapshot.resources.keys() == {"machine"}
        assert following(watch, hoist.Mark).position >= snapshot.position
    operation = start_large(client)
    with client.watch(kinds=["OPERATION"], progress=timedelta(milliseconds=100)) as watch:
        sample = following(watch, hoist.ProgressSample, lambda event: operation.name in event.operations)
        assert sample.operations[operation.name].phase
    operation.cancel()


def test_a_restart_leads_to_a_fresh_snapshot(server: Server, client: hoist.Client) -> None:
    with client.watch() as watch:
        before = following(watch, hoist.Snapshot)
        server.kill()
        server.start()
        after = following(watch, hoist.Snapshot)
    assert after.position.epoch > before.position.epoch
    machine = after.resources["machine"].value
    assert isinstance(machine, hoist.Machine)
    assert machine.process_id == server.process.pid
    assert client.status().position.epoch == after.position.epoch


def test_a_cut_connection_loses_nothing_and_repeats_nothing(client: hoist.Client, relay: Relay) -> None:
    with hoist.connect(relay.endpoint) as cut, cut.watch(kinds=["OPERATION"]) as watch:
        following(watch, hoist.Snapshot)
        first = client.probe(["MEMORY_COPY"], bytes=SMALL, wait=False)
        following(watch, hoist.Changed, in_state(first.name, OperationState.SUCCEEDED))
        relay.cut()
        second = client.probe(["MEMORY_COPY"], bytes=SMALL, wait=False)
        events = []
        for event in watch:
            events.append(event)
            if isinstance(event, hoist.Changed) and in_state(second.name, OperationState.SUCCEEDED)(event):
                break
    assert not [event for event in events if isinstance(event, hoist.Snapshot)]
    changes = [event for event in events if isinstance(event, hoist.Changed)]
    assert {event.resource.name for event in changes} == {second.name}
    assert changes[0].fields == frozenset()
    assert len({event.position for event in changes}) == len(changes)


def test_without_resume_a_cut_is_an_error(relay: Relay) -> None:
    with hoist.connect(relay.endpoint) as client:
        watch = client.watch(resume=False)
        following(watch, hoist.Snapshot)
        relay.cut()
        with pytest.raises(hoist.Unreachable):
            following(watch, hoist.Snapshot)
        with pytest.raises(StopIteration):
            next(watch)


def test_closing_a_watch_wakes_whoever_waits(client: hoist.Client) -> None:
    watch = client.watch(names=["machine"], mark_interval=3600)
    following(watch, hoist.Snapshot)
    threading.Thread(target=watch.close).start()
    assert list(watch) == []


def test_closing_the_client_ends_its_watches(server: Server) -> None:
    client = hoist.connect(server.endpoint)
    watch = client.watch(names=["machine"], mark_interval=3600)
    following(watch, hoist.Snapshot)
    threading.Thread(target=client.close).start()
    assert list(watch) == []


def test_a_call_after_close_says_so(server: Server) -> None:
    client = hoist.connect(server.endpoint)
    operation = client.probe(["MEMORY_COPY"], bytes=16 << 20, wait=False)
    client.close()
    for call in (client.status, client.watch, client.config, operation.refresh):
        with pytest.raises(hoist.Error, match="the client is closed"):
            call()


def test_waiting_for_less_than_nothing_is_refused_even_after_the_end(client: hoist.Client) -> None:
    operation = client.probe(["memory_copy"], bytes=16 << 20, wait=False)
    operation.wait()
    assert client.operation(operation.name.removeprefix("operations/")).name == operation.name
    with pytest.raises(ValueError, match="timeout must not be negative"):
        operation.wait(-1)


def test_a_probe_tells_progress_and_gives_a_result(client: hoist.Client) -> None:
    heard: list[hoist.Progress] = []
    result = client.probe(["MEMORY_COPY"], bytes=16 << 30, on_progress=heard.append)
    (measured,) = result.measurements
    assert measured.kind is MeasurementKind.MEMORY_COPY
    assert measured.bytes_per_second > 0
    assert measured.duration > timedelta()
    assert heard
    assert all(each.done_bytes <= each.total_bytes for each in heard)
    machine = client.status().resource.value
    assert isinstance(machine, hoist.Machine)
    assert measured in machine.measurements


def test_a_probe_can_be_cancelled(client: hoist.Client) -> None:
    operation = start_large(client)
    assert not operation.done
    with pytest.raises(hoist.TimedOut):
        operation.wait(0.05)
    with pytest.raises(hoist.Refused) as refused:
        operation.delete()
    assert refused.value.reason == "OPERATION_NOT_DONE"
    operation.cancel()
    with pytest.raises(hoist.OperationCancelled) as cancelled:
        operation.result()
    assert cancelled.value.operation == operation.name
    assert operation.name in str(cancelled.value)
    assert cancelled.value.reason == "OPERATION_CANCELLED"
    assert operation.state is OperationState.CANCELLED
    assert operation.metadata.cancel_requested
    assert isinstance(operation.metadata.error, hoist.OperationCancelled)
    operation.cancel()
    operation.delete()
    with pytest.raises(hoist.NotFound):
        operation.refresh()


def test_a_probe_that_takes_too_long_fails(client: hoist.Client) -> None:
    with pytest.raises(hoist.OperationFailed) as failed:
        client.probe(["MEMORY_COPY"], bytes=LARGE, deadline=0.1)
    assert (failed.value.code, failed.value.reason) == (hoist.Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


def test_a_request_id_stands_for_one_request(client: hoist.Client) -> None:
    request_id = str(uuid.uuid4())
    first = client.probe(["MEMORY_COPY"], bytes=SMALL, wait=False, request_id=request_id)
    again = client.probe(["MEMORY_COPY"], bytes=SMALL, wait=False, request_id=request_id)
    assert again.name == first.name
    assert first.metadata.request_id == request_id
    with pytest.raises(hoist.Refused) as refused:
        client.probe(["MEMORY_COPY"], bytes=2 * SMALL, wait=False, request_id=request_id)
    assert (refused.value.code, refused.value.reason) == (hoist.Code.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert refused.value.request_id == request_id


def test_operations_are_listed_over_all_pages(client: hoist.Client) -> None:
    # One at a time: equal probes that run together are one operation.
    made = []
    for _ in range(3):
        made.append(client.probe(["MEMORY_COPY"], bytes=SMALL, wait=False))
        made[-1].wait()
    listed = list(client.operations(page_size=2))
    assert [each.name for each in listed] == [each.name for each in reversed(made)]
    assert all(each.done and each.metadata.kind is hoist.OperationKind.PROBE_MACHINE for each in listed)
    assert not list(client.operations("state = RUNNING"))
    assert len(list(client.operations("state = SUCCEEDED AND kind = PROBE_MACHINE"))) == 3
    found = client.operation(made[0].name)
    assert found.result() == made[0].result()
    with pytest.raises(hoist.Error) as refused:
        list(client.operations("no filter"))
    assert refused.value.code is hoist.Code.INVALID_ARGUMENT


def test_the_configuration_says_where_each_value_came_from(client: hoist.Client) -> None:
    config = client.config()
    assert all(key == entry.key and entry.description for key, entry in config.items())
    origins = {entry.origin for entry in config.values()}
    assert origins == {hoist.ConfigOrigin.DEFAULT, hoist.ConfigOrigin.ENVIRONMENT, hoist.ConfigOrigin.FLAG}
    assert config["catalog.digest"].origin is hoist.ConfigOrigin.ENVIRONMENT


def test_over_tcp(server: Server) -> None:
    with hoist.connect(server.tcp) as client:
        assert client.endpoint == server.tcp
        assert client.status().resource.kind is ResourceKind.MACHINE
        assert following(client.watch(), hoist.Snapshot).resources.keys() >= {"machine"}
        with pytest.raises(hoist.Refused) as refused:
            client.shutdown()
        assert refused.value.reason == "PERMISSION_DENIED"


def test_the_endpoint_of_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOIST_ENDPOINT", server.endpoint)
    with hoist.connect() as client:
        assert client.endpoint == server.endpoint


def test_nobody_there(tmp_path: Path) -> None:
    endpoint = f"unix://{tmp_path}/none.sock"
    with pytest.raises(hoist.Unreachable, match="hoist serve") as raised:
        hoist.connect(endpoint)
    assert endpoint in str(raised.value)


def test_shutdown_ends_watches_and_the_server(server: Server, client: hoist.Client) -> None:
    watch = client.watch(resume=False)
    following(watch, hoist.Snapshot)
    client.shutdown(grace=0)
    with pytest.raises(hoist.Unreachable):
        following(watch, hoist.Snapshot)
    assert server.wait() == 0
    with pytest.raises(hoist.Unreachable):
        client.status()


def test_a_plain_grpc_client_needs_no_options_on_the_socket(server: Server) -> None:
    # gRPC's C core names the path of a Unix socket as the authority; servers commonly reset such streams.
    with grpc.insecure_channel(server.endpoint) as channel:
        call = channel.unary_unary(
            "/hoist.api.v1.StateService/GetStatus",
            request_serializer=state_service_pb2.GetStatusRequest.SerializeToString,
            response_deserializer=state_service_pb2.GetStatusResponse.FromString,
        )
        for _ in range(3):
            assert call(state_service_pb2.GetStatusRequest(), timeout=10).status.name == "machine"
