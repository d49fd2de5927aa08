"""Sizes and times as people write them: the examples are those of the command line's own tests."""

from __future__ import annotations

from datetime import timedelta

import pytest

from hoist import _decode, _quantities


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("8GiB", 8 << 30),
        ("8 g", 8 << 30),
        ("1.5GB", 1_500_000_000),
        ("1.1GB", 1_100_000_000),
        ("512mib", 512 << 20),
        (" 2 TiB ", 2 << 40),
        ("1.000000001k", 1024),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert _decode.size("budget", text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1.", ".5", "1.2.3", "8 gigs", "1e9", "٣", "9" * 5_000])
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^budget: .* is not a size: write a number and a unit"):
        _decode.size("budget", text)


def test_a_size_beyond_what_a_request_can_say_is_refused() -> None:
    with pytest.raises(ValueError, match="budget"):
        _decode.size("budget", "99999999999TiB")


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0s", 0),
        ("250ms", 250_000_000),
        ("10s", 10_000_000_000),
        (" 5 m ", 300_000_000_000),
        ("24h", 86_400_000_000_000),
        ("1d", 86_400_000_000_000),
        ("7us", 7_000),
        ("3ns", 3),
    ],
)
def test_times_are_read_as_people_write_them(text: str, nanoseconds: int) -> None:
    assert _quantities.nanoseconds("idle_ttl", text) == nanoseconds
    assert _decode.seconds("idle_ttl", text) == pytest.approx(nanoseconds / 1e9)
    sent = _decode.to_span("idle_ttl", text)
    assert sent is not None
    assert sent.ToNanoseconds() == nanoseconds


@pytest.mark.parametrize(
    "text", ["", "s", "10", "-1s", "+1s", "1.5s", "1m30s", "1e3s", "10 S", "1y", "٣s", "9" * 5_000 + "s"]
)
def test_what_is_not_a_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^idle_ttl: .* is not a time: write a whole number and a unit"):
        _decode.to_span("idle_ttl", text)


def test_a_time_beyond_what_a_request_can_say_is_refused() -> None:
    for long in ("999999999999999999999999h", 1e30):
        with pytest.raises(ValueError, match=r"idle_ttl: .* more than a request can say"):
            _decode.to_span("idle_ttl", long)


def test_a_number_is_of_seconds_and_a_timedelta_is_itself() -> None:
    for same in (90, 90.0, timedelta(seconds=90), "90s"):
        assert _decode.seconds("timeout", same) == 90
