"""The calls about agreement, and those that cordon: what is sent, and what is made of the answers."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from hoist import SyncPace, _decode, _plans, _plans_agreement
from hoist._proto.v1 import device_service_pb2 as device
from hoist._proto.v1 import resources_pb2
from hoist._proto.v1 import state_service_pb2 as state

from .test_plans import calls, carry_out
from .test_plans_cache import ID, sent

CPU = resources_pb2.Device(name="devices/cpu:0", device_id="cpu:0", cordoned=True, cordon_reason="hot")


def test_cordoning_says_which_and_why() -> None:
    assert sent(_plans.cordon("cpu:0", "hot", None)) == device.CordonDeviceRequest(name="cpu:0", reason="hot")
    assert sent(_plans.cordon("cpu:0", None, None)) == device.CordonDeviceRequest(name="cpu:0")
    cordoned, steps = carry_out(
        _plans.cordon("cpu:0", "hot", ID), [device.CordonDeviceResponse(request_id=ID, device=CPU)]
    )
    assert calls(steps)[0].request.request_id == ID  # type: ignore[attr-defined]
    assert cordoned is not None
    assert (cordoned.cordoned, cordoned.cordon_reason) == (True, "hot")
    # What a call gives stands for it.
    assert sent(_plans.uncordon(cordoned, None)) == device.UncordonDeviceRequest(name="devices/cpu:0")
    with pytest.raises(TypeError, match="device must be a string"):
        next(_plans.cordon(0, None, None))  # type: ignore[arg-type]


def test_a_device_that_nobody_has_heard_of_is_none() -> None:
    assert carry_out(_plans.cordon("cuda:7", None, None), [device.CordonDeviceResponse()])[0] is None
    assert carry_out(_plans.uncordon("cuda:7", None), [device.UncordonDeviceResponse()])[0] is None


def test_health_is_that_of_everything_or_of_one_thing() -> None:
    assert sent(_plans_agreement.health(None, None)) == state.GetSyncHealthRequest()
    assert sent(_plans_agreement.health("cpu:0", "5m")) == state.GetSyncHealthRequest(
        name="cpu:0", window=_decode.to_span("window", 300)
    )
    assert sent(_plans_agreement.health(Path("/m/x"), None)) == state.GetSyncHealthRequest(name="/m/x")
    one = state.SyncHealth(name="devices/cpu:0", device_id="cpu:0", agreement=0.5, pace="SYNC_PACE_HIGH")
    one.differs_for.FromMilliseconds(1500)
    whole = state.SyncHealth(name="machine", agreement=1.0, agrees=True)
    answer = state.GetSyncHealthResponse(overall=whole, devices=[one])
    report = carry_out(_plans_agreement.health(None, None), [answer])[0]
    assert (report.overall.agreement, report.overall.differs_for, report.models) == (1.0, None, ())
    assert (report.devices[0].differs_for, report.devices[0].staleness) == (timedelta(seconds=1.5), None)
    assert report.devices[0].pace is SyncPace.HIGH


def test_a_diagnosis_has_what_is_and_what_was() -> None:
    assert sent(_plans_agreement.diagnose("sdxl")) == state.DiagnoseSyncRequest(name="sdxl")
    answer = state.DiagnoseSyncResponse(
        findings=[state.SyncFinding(name="replicas/x", device_id="cpu:0", message="nobody asked for it")],
        latencies=[state.SyncLatency(device_id="cpu:0", answers=3)],
        history=[state.SyncIncident(name="devices/cpu:0", message="it was away")],
    )
    told = carry_out(_plans_agreement.diagnose(None), [answer])[0]
    assert (told.findings[0].message, told.findings[0].age) == ("nobody asked for it", None)
    assert (told.latencies[0].answers, told.history[0].message) == (3, "it was away")


def test_a_reset_that_is_waited_for_is_held_back_for_as_long_and_says_whether_it_agrees() -> None:
    assert sent(_plans_agreement.reset("cpu:0", None)) == state.ResetSyncRequest(name="cpu:0")
    answer = state.ResetSyncResponse(device_ids=["cpu:0"], agrees=True)
    at_once, steps = carry_out(_plans_agreement.reset(None, None), [answer])
    assert (at_once.device_ids, at_once.agrees, calls(steps)[0].extra_seconds) == (("cpu:0",), None, 0)
    awaited, steps = carry_out(_plans_agreement.reset(None, "10s"), [answer])
    assert (awaited.agrees, calls(steps)[0].extra_seconds) == (True, 10)
    # No time at all is a wait, too: it asks how things are.
    assert carry_out(_plans_agreement.reset(None, 0), [state.ResetSyncResponse()])[0].agrees is False


def test_a_pace_is_a_word_and_none_is_that_of_everything() -> None:
    configured = state.ConfigureSyncRequest(name="sdxl", pace="SYNC_PACE_BACKGROUND")
    assert sent(_plans_agreement.configure("background", "sdxl", None)) == configured
    assert sent(_plans_agreement.configure(None, "sdxl", None)) == state.ConfigureSyncRequest(name="sdxl")
    answer = state.ConfigureSyncResponse(pace="SYNC_PACE_STANDARD")
    assert carry_out(_plans_agreement.configure(None, "sdxl", None), [answer])[0] is SyncPace.STANDARD
    with pytest.raises(ValueError, match="is not a SyncPace: use HIGH, STANDARD"):
        next(_plans_agreement.configure("fast", None, None))
    with pytest.raises(ValueError, match="without a name"):
        next(_plans_agreement.configure(None, None, None))
