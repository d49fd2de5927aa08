"""The course of a lease by hand, without a server: what is asked for, and what an answer or an end means."""

from __future__ import annotations

import pytest

import hoist
from hoist import Code, _backoff, _plans_cache
from hoist._lease import LeaseState
from hoist._proto.v1 import lease_service_pb2 as lease

GONE = hoist.Unreachable("gone", code=Code.UNAVAILABLE)
UNKNOWN = hoist.NotFound("no such lease", code=Code.NOT_FOUND, reason="LEASE_UNKNOWN")


class Clock:
    """The time that a test says it is."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def asked(clock: Clock | None = None) -> LeaseState:
    wish = _plans_cache.acquire("sdxl", "vae", "high", ["corrupt"], "trainer 3", 5)
    return LeaseState(wish, draw=lambda: 0.0, clock=clock or Clock())


def granted(name: str = "leases/a", grace: int = 10) -> lease.AcquireResponse:
    answer = lease.AcquireResponse()
    answer.granted.lease.name = name
    answer.granted.grace.seconds = grace
    return answer


def held(clock: Clock) -> LeaseState:
    of = asked(clock)
    of.request()
    of.feed(granted())
    return of


def test_a_lease_is_asked_for_as_it_was_wished() -> None:
    request = asked().request()
    assert (request.name, list(request.components), request.holder) == ("sdxl", ["vae"], "trainer 3")
    assert request.priority == lease.AcquireRequest(priority="PRIORITY_HIGH").priority
    assert request.deadline.seconds == 5
    assert len(request.allow) == 1
    assert request.request_id


def test_asking_is_repeated_for_a_lost_connection_and_for_nothing_else() -> None:
    of = asked()
    for _ in range(_backoff.TRIES - 1):
        of.request()
        assert of.ended(GONE)
    of.request()
    with pytest.raises(hoist.Unreachable):
        of.ended(GONE)
    refused = hoist.Refused("full", code=Code.RESOURCE_EXHAUSTED, reason="RAM_EXHAUSTED")
    other = asked()
    other.request()
    with pytest.raises(hoist.Refused):
        other.ended(refused)


def test_a_lease_that_is_revoked_while_it_is_waited_for_is_refused() -> None:
    of = asked()
    of.request()
    of.feed(lease.AcquireResponse(revoked=lease.Revoked(reason="drained")))
    with pytest.raises(hoist.Refused, match="drained"):
        of.ended(GONE)


def test_after_a_break_the_lease_is_asked_for_by_its_name_until_the_grace_is_over() -> None:
    clock = Clock()
    of = held(clock)
    assert of.held
    # However it broke.
    assert of.ended(UNKNOWN) == _backoff.FIRST_SECONDS
    assert not of.held
    request = of.request()
    assert (request.lease, request.holder, request.name) == ("leases/a", "trainer 3", "")
    assert request.skip_tensors
    clock.now += 9.9
    # Not beyond its end.
    assert of.ended(GONE) == pytest.approx(0.1)
    clock.now += 0.1
    assert of.ended(GONE) is None
    assert of.lost is GONE
    assert of.over


def test_a_lease_that_was_taken_up_again_is_as_new() -> None:
    clock = Clock()
    of = held(clock)
    of.ended(GONE)
    of.ended(GONE)
    of.request()
    of.feed(granted())
    assert of.held
    clock.now += 60
    assert of.ended(GONE) == _backoff.FIRST_SECONDS, "a later break has a grace of its own"


@pytest.mark.parametrize("code", [Code.NOT_FOUND, Code.PERMISSION_DENIED, Code.FAILED_PRECONDITION])
def test_a_refusal_to_give_it_back_is_final(code: Code) -> None:
    of = held(Clock())
    of.ended(GONE)
    assert of.ended(hoist.Error("no", code=code)) is None
    assert of.lost is not None
    assert of.lost.code is code


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.INTERNAL, Code.CANCELLED])
def test_a_server_that_is_starting_is_asked_again(code: Code) -> None:
    of = held(Clock())
    of.ended(GONE)
    assert of.ended(hoist.Error("not yet", code=code))


def test_nothing_follows_a_revocation() -> None:
    of = held(Clock())
    of.feed(lease.AcquireResponse(revoked=lease.Revoked(reason="make room")))
    assert of.ended(GONE) is None
    assert (of.revoked, of.lost, of.held) == ("make room", None, False)


def test_a_revocation_without_a_reason_is_one() -> None:
    of = held(Clock())
    of.feed(lease.AcquireResponse(revoked=lease.Revoked()))
    assert of.revoked
