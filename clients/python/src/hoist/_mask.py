"""Merging a change into what is known, by the field mask that came with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)


def merge(into: M, change: M, paths: Iterable[str]) -> None:
    """Makes the fields that `paths` name in `into` what they are in `change`, unset ones included.

    protobuf's own FieldMask.MergeMessage is not used: it leaves a nested field as it was where the change
    lacks the whole parent, and fails on a path that is newer than this client.
    """
    for path in paths:
        _merge(into, change, path)


def _merge(into: Message, change: Message, path: str) -> None:
    name, _, rest = path.partition(".")
    field = into.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        # A field that is newer than this client: it could not show it anyway.
        return
    if rest:
        if change.HasField(name):
            getattr(into, name).SetInParent()
        if into.HasField(name):
            _merge(getattr(into, name), getattr(change, name), rest)
        return
    into.ClearField(name)
    if field.is_repeated:
        getattr(into, name).MergeFrom(getattr(change, name))
    elif field.has_presence and not change.HasField(name):
        pass
    elif field.message_type is not None:
        getattr(into, name).CopyFrom(getattr(change, name))
    else:
        setattr(into, name, getattr(change, name))
