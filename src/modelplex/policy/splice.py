"""Applies edits to the bytes of a body. Values without an edit keep their bytes, at every depth.

Only objects and lists that contain an edit are parsed, one level at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec

from modelplex.policy.path import steps
from modelplex.policy.walk import REMOVED, Edit

Changes = dict[str | int, Any]
"""Edits as a tree: a _Leaf, or the changes inside a member or an entry."""
members_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_entries = msgspec.json.Decoder(list[msgspec.Raw]).decode
encode = msgspec.json.Encoder().encode
_NONE = msgspec.Raw(b"null")
"""The value of a member that an edit adds."""


class _Leaf(msgspec.Struct, frozen=True):
    value: Any


def spliced(members: Mapping[str, msgspec.Raw], edits: Iterable[Edit]) -> dict[str, msgspec.Raw]:
    """The members of a body with the edits applied."""
    changes: Changes = {}
    for edit in edits:
        _insert(changes, steps(edit.path), _Leaf(edit.value))
    return _members_with(members, changes)


def _insert(changes: Changes, keys: tuple[str | int, ...], leaf: _Leaf) -> None:
    """Add one edit to the tree. An edit inside a removed value has no effect."""
    for key in keys[:-1]:
        inner = changes.setdefault(key, {})
        if isinstance(inner, _Leaf):
            return
        changes = cast("Changes", inner)
    changes[keys[-1]] = leaf


def _members_with(given: Mapping[str, msgspec.Raw], changes: Changes) -> dict[str, msgspec.Raw]:
    members = dict(given)
    for key, change in changes.items():
        name = str(key)
        if (value := _changed(members.get(name, _NONE), change)) is None:
            members.pop(name, None)
        else:
            members[name] = value
    return members


def _entries_with(raw: msgspec.Raw, changes: Changes) -> list[msgspec.Raw]:
    entries: list[msgspec.Raw] = []
    for index, entry in enumerate(_entries(raw)):
        change = changes.get(index)
        value = entry if change is None else _changed(entry, change)
        if value is not None:
            entries.append(value)
    return entries


def _changed(raw: msgspec.Raw, change: Any) -> msgspec.Raw | None:
    if isinstance(change, _Leaf):
        return None if change.value is REMOVED else msgspec.Raw(encode(change.value))
    changes = cast("Changes", change)
    in_list = isinstance(next(iter(changes)), int)
    return msgspec.Raw(
        encode(_entries_with(raw, changes) if in_list else _members_with(members_of(raw), changes))
    )
