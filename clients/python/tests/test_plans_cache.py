"""The calls about weights in RAM: what is sent, and what is made of the answers."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from google.longrunning import operations_proto_pb2 as operations_pb2

import hoist
from hoist import (
    CachedSource,
    EvictionPolicy,
    EvictionReason,
    LeaseState,
    Priority,
    SegmentState,
    _decode,
    _plans_cache,
    _plans_models,
)
from hoist._plans import Plan
from hoist._proto.v1 import cache_service_pb2 as cache
from hoist._proto.v1 import catalog_service_pb2 as catalog
from hoist._proto.v1 import lease_service_pb2 as lease
from hoist._proto.v1 import model_pb2, resources_pb2

from .test_models import first
from .test_plans import calls, carry_out

ID = "0198c2f4-0000-7000-8000-00000000000a"


def sent(plan: Plan[Any]) -> Any:  # noqa: ANN401
    """What is sent first, less its id."""
    request = first(plan)
    assert uuid.UUID(request.request_id)
    request.request_id = ""
    return request


def test_caching_says_what_was_asked() -> None:
    plan = _plans_cache.cache_model("sdxl", ["vae", "unet"], "high", ["corrupt"], "full", 5, None)
    assert sent(plan) == cache.CacheModelRequest(
        name="sdxl",
        components=["vae", "unet"],
        priority="PRIORITY_HIGH",
        allow=["VERDICT_CORRUPT"],
        validation_level="VALIDATION_LEVEL_FULL",
        deadline=_decode.to_span("deadline", 5),
    )
    plain = _plans_cache.cache_model(Path("/m/x"), "vae", None, (), None, None, None)
    assert sent(plain) == cache.CacheModelRequest(name="/m/x", components=["vae"])
    given = str(uuid.uuid4())
    assert first(_plans_cache.cache_model("x", None, None, (), None, None, given)).request_id == given


def test_what_was_cached_is_the_result_of_the_operation() -> None:
    done = operations_pb2.Operation(name="operations/a", done=True)
    done.response.Pack(
        cache.CacheModelResponse(
            model="models/m",
            components=[
                cache.CachedComponent(
                    component="vae",
                    segment="segments/d",
                    path="/r/d.safetensors",
                    prefix="first_stage_model.",
                    size_bytes=7,
                    source="SOURCE_SHARED",
                )
            ],
            read_bytes=7,
            took=_decode.to_span("took", 1.5),
            evicted=["segments/e"],
            left_out=["rest: no tensors"],
        )
    )
    result = _decode.result(done)
    assert isinstance(result, hoist.CacheResult)
    vae = hoist.CachedComponent(
        "vae", "segments/d", "/r/d.safetensors", "first_stage_model.", 7, CachedSource.SHARED
    )
    assert result == hoist.CacheResult(
        "models/m", (vae,), 7, timedelta(seconds=1.5), ("segments/e",), ("rest: no tensors",)
    )
    assert result["vae"] == vae
    with pytest.raises(KeyError):
        result["unet"]


def evicting(name: object = None, components: object = None, **more: Any) -> Any:  # noqa: ANN401
    given = {"segments": None, "all": False, "dry_run": False, "request_id": None, **more}
    return _plans_cache.evict(name, components, **given)  # type: ignore[arg-type]


def test_what_goes_is_named_in_one_request() -> None:
    assert sent(evicting("x", "vae", dry_run=True)) == cache.EvictModelRequest(
        name="x", components=["vae"], dry_run=True
    )
    assert sent(evicting(Path("/m/x"))) == cache.EvictModelRequest(name="/m/x")
    assert sent(evicting(iter(["x", Path("/m/y")]))) == cache.EvictModelRequest(
        parts=[cache.ModelPart(name="x"), cache.ModelPart(name="/m/y")]
    )
    assert sent(evicting({"x": "vae", "y": None})) == cache.EvictModelRequest(
        parts=[cache.ModelPart(name="x", components=["vae"]), cache.ModelPart(name="y")]
    )
    digests = ["segments/0a", "0B"]
    assert sent(evicting(segments=digests)) == cache.EvictModelRequest(
        segments=["segments/0a", "segments/0b"]
    )
    assert sent(evicting(segments="0a")) == cache.EvictModelRequest(segments=["segments/0a"])
    with pytest.raises(TypeError, match="name must be a name or a list"):
        next(evicting(3))
    for empty in ("name", "segments"):
        with pytest.raises(ValueError, match="none"):
            next(evicting(**{empty: []}))
    for named in ({"name": ["x", "y"]}, {"segments": "0a"}):
        with pytest.raises(ValueError, match="components are those of one model"):
            next(evicting(components="vae", **named))


def test_evicting_everything_has_to_be_said() -> None:
    assert sent(evicting(all=True)) == cache.EvictModelRequest(all=True)
    for given in (
        {},
        {"name": "x", "all": True},
        {"segments": "0a", "all": True},
        {"components": "vae", "all": True},
    ):
        with pytest.raises(ValueError, match="all=True"):
            next(evicting(**given))
    answer = cache.EvictModelResponse(
        segments=[cache.EvictedSegment(segment="segments/d", size_bytes=3, kept_because="leased")],
        freed_bytes=0,
        dry_run=True,
    )
    result, _ = carry_out(evicting("x", dry_run=True), [answer])
    assert result == hoist.EvictResult((hoist.EvictedSegment("segments/d", 3, False, "leased"),), 0, True)


@pytest.mark.parametrize(
    "plan",
    [
        lambda components: _plans_cache.cache_model("x", components, None, (), None, None, None),
        lambda components: evicting("x", components),
        lambda components: _plans_cache.pin("x", components, None),
        lambda components: iter([_plans_cache.acquire("x", components, None, (), None, None)]),
    ],
)
@pytest.mark.parametrize("components", [[], "", ["vae", ""]])
def test_a_list_that_came_out_empty_is_not_everything(plan: Callable[[Any], Any], components: object) -> None:
    with pytest.raises(ValueError, match="components names none"):
        next(plan(components))


def test_the_status_of_the_cache() -> None:
    answer = cache.GetCacheResponse(
        budget_bytes=10,
        budget_limit="tmpfs",
        used_bytes=9,
        sealed_bytes=4,
        filling_bytes=3,
        zombie_bytes=2,
        segments=1,
        leases=5,
        policy=cache.CachePolicy(budget_bytes=0, eviction="EVICTION_POLICY_LRU"),
        statistics=cache.CacheStatistics(hits=1, misses=2, evictions=3, saved_bytes=4),
        directory="/r",
        held_bytes=11,
    )
    status, _ = carry_out(_plans_cache.cache_status(), [answer])
    assert (status.budget_bytes, status.budget_limit, status.used_bytes, status.directory) == (
        10,
        "tmpfs",
        9,
        "/r",
    )
    assert (status.sealed_bytes, status.filling_bytes, status.zombie_bytes, status.held_bytes) == (
        4,
        3,
        2,
        11,
    )
    assert (status.segments, status.leases) == (1, 5)
    # A budget of nothing is not the same as none.
    assert status.policy == hoist.CachePolicy(0, EvictionPolicy.LRU, None, Priority.UNSPECIFIED)
    figures = status.statistics
    assert (figures.hits, figures.misses, figures.evictions, figures.saved_bytes) == (1, 2, 3, 4)
    assert figures.mean_idle_at_eviction is None


def test_a_policy_is_read_or_changed_by_what_is_given() -> None:
    read = _plans_cache.cache_policy(None, None, None, None, None, (), None)
    policy, steps = carry_out(read, [cache.GetCacheResponse(policy=cache.CachePolicy(budget_bytes=5))])
    assert policy.budget_bytes == 5
    assert isinstance(calls(steps)[0].request, cache.GetCacheRequest)

    changed = _plans_cache.cache_policy(None, 0, "lru", 60, Priority.LOW, (), None)
    assert sent(changed) == cache.UpdateCachePolicyRequest(
        policy=cache.CachePolicy(
            budget_bytes=0,
            eviction="EVICTION_POLICY_LRU",
            idle_ttl=_decode.to_span("idle_ttl", 60),
            priority="PRIORITY_LOW",
        ),
        update_mask={"paths": ["budget_bytes", "eviction", "idle_ttl", "priority"]},
    )
    written = sent(_plans_cache.cache_policy(None, "8GiB", None, "1h", None, (), None)).policy
    assert (written.budget_bytes, written.idle_ttl.seconds) == (8 << 30, 3600)
    back = sent(_plans_cache.cache_policy("x", None, None, 60, None, "priority", None))
    assert (back.name, list(back.update_mask.paths)) == ("x", ["idle_ttl", "priority"])
    assert back.policy.priority == 0
    every = sent(_plans_cache.cache_policy(None, None, None, None, None, ["budget", "eviction"], None))
    assert list(every.update_mask.paths) == ["budget_bytes", "eviction"]
    assert not every.policy.HasField("budget_bytes")


def test_a_model_s_own_policy_is_what_people_say_about_it() -> None:
    answer = catalog.GetModelResponse()
    answer.model.discover_time.GetCurrentTime()
    config = answer.model.notes.config
    config.MergeFrom(model_pb2.ModelConfig(cache_priority="PRIORITY_HIGH", pinned=True))
    config.cache_idle_ttl.seconds = 9
    config.pinned_components.append("vae")
    policy, _ = carry_out(_plans_cache.cache_policy("x", None, None, None, None, (), None), [answer])
    assert policy == hoist.CachePolicy(None, EvictionPolicy.UNSPECIFIED, timedelta(seconds=9), Priority.HIGH)
    told, _ = carry_out(_plans_models.model("x", False, False), [answer])
    assert told.notes.config == hoist.ModelConfig(
        "", False, Priority.HIGH, timedelta(seconds=9), True, ("vae",)
    )


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            (None, None, None, None, None, ["size"], None),
            ValueError,
            "use budget, eviction, idle_ttl, priority",
        ),
        ((None, 5, None, None, None, ["budget"], None), ValueError, "budget is given, and shall go back"),
        (("x", 5, None, None, None, (), None), ValueError, "budget is of the whole cache"),
        ((None, 5.5, None, None, None, (), None), TypeError, "budget must be a whole number"),
        ((None, "lots", None, None, None, (), None), ValueError, "budget: 'lots' is not a size"),
        ((None, "40", None, None, None, (), None), ValueError, "budget: '40' is less than 1MiB"),
        ((None, "auto", None, None, None, (), None), ValueError, r"say reset=\['budget'\]"),
        ((None, None, None, "Never", None, (), None), ValueError, r"say reset=\['idle_ttl'\]"),
        ((None, None, None, "60", None, (), None), ValueError, "idle_ttl: '60' is not a time"),
        ((None, None, "fifo", None, None, (), None), ValueError, "use COST, LRU"),
        ((None, None, None, None, None, [3], None), TypeError, "reset"),
    ],
)
def test_a_policy_that_can_never_be_right_is_not_sent(
    arguments: tuple[Any, ...], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        next(_plans_cache.cache_policy(*arguments))


def test_segments_are_told_in_full() -> None:
    seal = datetime(2026, 1, 2, tzinfo=timezone.utc)
    message = cache.SegmentStatus(path="/r/d.safetensors", user_count=101, leases=2, pinned=True, uses=3)
    message.segment.MergeFrom(
        resources_pb2.Segment(
            name="segments/d",
            state="STATE_EVICTING",
            size_bytes=5,
            raw=True,
            type="vae",
            priority="PRIORITY_LOW",
            models=["models/m"],
            zombie=True,
            eviction=resources_pb2.Eviction(reason="REASON_ROOM", beneficiary="models/n"),
        )
    )
    message.segment.seal_time.FromDatetime(seal)
    message.users.add(model="models/m", display_name="M", component="vae", prefix="v.", cached=True)
    request = _plans_cache.segments_request("m", 5_000)
    assert (request.name, request.page_size) == ("m", 1_000)
    page = cache.ListSegmentsResponse(segments=[message], next_page_token="t")
    (found, token), _ = carry_out(_plans_cache.segments_page(request, ""), [page])
    assert token == "t"
    segment = hoist.Segment(
        "segments/d",
        SegmentState.EVICTING,
        5,
        True,
        "vae",
        Priority.LOW,
        ("models/m",),
        seal,
        True,
        hoist.Eviction(EvictionReason.ROOM, "models/n"),
    )
    user = hoist.SegmentUser("models/m", "M", "vae", "v.", True)
    assert found == [hoist.SegmentStatus(segment, "/r/d.safetensors", (user,), 101, 2, True, None, 3)]


def test_pins() -> None:
    assert sent(_plans_cache.pin("x", "vae", None)) == cache.PinModelRequest(name="x", components=["vae"])
    answer = cache.PinModelResponse(model="models/m", resident=["vae"], absent=["unet"])
    result, _ = carry_out(_plans_cache.pin("x", None, None), [answer])
    assert result == hoist.PinResult("models/m", ("vae",), ("unet",))
    assert sent(_plans_cache.unpin("x", "vae", None)) == cache.UnpinModelRequest(name="x", components=["vae"])
    gone = cache.UnpinModelResponse(model="models/m", was_pinned=True, pinned=["unet"])
    left, _ = carry_out(_plans_cache.unpin("x", None, None), [gone])
    assert left == hoist.UnpinResult("models/m", True, ("unet",))


def test_leases_are_told_and_revoked_by_name_id_or_value() -> None:
    answer = lease.ListLeasesResponse()
    told = answer.leases.add(
        name=f"leases/{ID}", state="STATE_AWAITED", model="models/m", segments=["segments/d"], holder="me"
    )
    told.grant_time.FromDatetime(datetime(2026, 1, 2))
    ([held], _), _ = carry_out(_plans_cache.leases_page(""), [answer])
    assert (held.state, held.segments, held.process_id) == (LeaseState.AWAITED, ("segments/d",), None)
    for name in (held, held.name, ID.upper()):
        request = sent(_plans_cache.revoke(name, "drain", None))
        assert request == lease.RevokeLeaseRequest(name=f"leases/{ID}", reason="drain")


def test_a_model_s_cache_is_a_note_like_others() -> None:
    edits = _plans_models.CacheEdits("high", 60, True, "vae")
    request = first(_plans_models.update_model("x", {}, {}, None, None, False, None, None, edits))
    fields = ["cache_priority", "cache_idle_ttl", "pinned", "pinned_components"]
    assert list(request.update_mask.paths) == [f"config.{each}" for each in fields]
    assert (request.notes.config.cache_priority, request.notes.config.cache_idle_ttl.seconds) == (4, 60)
    assert list(request.notes.config.pinned_components) == ["vae"]
    written = _plans_models.CacheEdits(idle_ttl="1h")
    request = first(_plans_models.update_model("x", {}, {}, None, None, False, None, None, written))
    assert request.notes.config.cache_idle_ttl.seconds == 3600
    cleared = _plans_models.CacheEdits("", "", False, ())
    request = first(_plans_models.update_model("x", {}, {}, None, None, False, None, None, cleared))
    assert list(request.update_mask.paths) == [f"config.{each}" for each in fields]
    assert request.notes.config.ByteSize() == 0
    for wrong, error in (
        (_plans_models.CacheEdits("urgent"), ValueError),
        (_plans_models.CacheEdits(idle_ttl="an hour"), ValueError),
    ):
        with pytest.raises(error):
            next(_plans_models.update_model("x", {}, {}, None, None, False, None, None, wrong))
    with pytest.raises(ValueError, match="nothing to change"):
        next(
            _plans_models.update_model("x", {}, {}, None, None, False, None, None, _plans_models.CacheEdits())
        )
