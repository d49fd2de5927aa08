"""Times and spans of time, from the wire."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp


def time(value: Timestamp) -> datetime:
    return value.ToDatetime(tzinfo=timezone.utc)


def span(value: Duration) -> timedelta:
    try:
        return value.ToTimedelta()
    except (OverflowError, ValueError):
        # The wire can say 292 billion years; a timedelta ends at 2.7 million.
        return timedelta.max
