"""Times and spans of time, from the wire; and those that may be unset, which are None then."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp


def time(value: Timestamp) -> datetime:
    return value.ToDatetime(tzinfo=timezone.utc)


def span(value: Duration) -> timedelta:
    try:
        return value.ToTimedelta()
    except (OverflowError, ValueError):
        # The wire can say 292 billion years; a timedelta ends at 2.7 million.
        return timedelta.max


def time_if(message: Message, field: str) -> datetime | None:
    value: Timestamp = getattr(message, field)
    return time(value) if message.HasField(field) else None


def span_if(message: Message, field: str) -> timedelta | None:
    value: Duration = getattr(message, field)
    return span(value) if message.HasField(field) else None
