"""What each call about agreement does, without I/O, as in `_plans`. Arguments are judged first."""

from __future__ import annotations

from hoist import _decode, _decode_agreement, _methods
from hoist._agreement import SyncDiagnosis, SyncReport, SyncReset
from hoist._enums import SyncPace, encode
from hoist._enums import decode as enum
from hoist._plans import Plan, chosen_id, fresh_id, unary
from hoist._plans_models import Name, model_name
from hoist._proto.v1 import state_service_pb2 as state
from hoist._quantities import Time


def _name(name: Name | None) -> str:
    """A device or a model, which the server tells apart; nothing is everything."""
    return "" if name is None else model_name("name", name)


def health(name: Name | None, window: Time | None) -> Plan[SyncReport]:
    request = state.GetSyncHealthRequest(
        request_id=fresh_id(), name=_name(name), window=_decode.to_span("window", window)
    )
    return _decode_agreement.report((yield from unary(_methods.GET_SYNC_HEALTH, request)))


def diagnose(name: Name | None) -> Plan[SyncDiagnosis]:
    request = state.DiagnoseSyncRequest(request_id=fresh_id(), name=_name(name))
    return _decode_agreement.diagnosis((yield from unary(_methods.DIAGNOSE_SYNC, request)))


def reset(name: Name | None, validate_for: Time | None) -> Plan[SyncReset]:
    request = state.ResetSyncRequest(
        request_id=fresh_id(),
        name=_name(name),
        validate_for=_decode.to_span("validate_for", validate_for),
    )
    held = _decode.seconds("validate_for", validate_for) or 0.0
    answer = yield from unary(_methods.RESET_SYNC, request, extra_seconds=held)
    return _decode_agreement.reset(answer, is_awaited=validate_for is not None)


def configure(pace: SyncPace | str | None, name: Name | None, request_id: str | None) -> Plan[SyncPace]:
    if pace is None and name is None:
        raise ValueError("pace: without a name there is nothing else that it could be as: give one")
    request = state.ConfigureSyncRequest(
        request_id=chosen_id(request_id),
        name=_name(name),
        pace=None if pace is None else encode(SyncPace, pace),
    )
    return enum(SyncPace, (yield from unary(_methods.CONFIGURE_SYNC, request)).pace)
