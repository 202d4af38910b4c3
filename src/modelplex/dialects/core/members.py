"""Decodes single members of a request body. Errors name the member by its path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar, cast, get_args

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import NO_MEMBERS, Place
from modelplex.dialects.core.json import MALFORMED, is_given

Wanted = TypeVar("Wanted")
Shape = TypeVar("Shape", bound=msgspec.Struct)

_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def decode_member(raw: msgspec.Raw, wanted: type[Wanted], *, path: str | Place) -> Wanted:
    """The value at `path`, typed. Raises BadRequest that names the wrong place inside it."""
    decoder = _decoders.get(wanted)
    if decoder is None:
        decoder = _decoders[wanted] = msgspec.json.Decoder(wanted)
    try:
        return cast("Wanted", decoder.decode(raw))
    except msgspec.ValidationError as error:
        reason, at, inside = str(error).rpartition(" - at `$")
        reason, place = (reason, f"{path}{inside.removesuffix('`')}") if at else (str(error), str(path))
        raise BadRequest(f"'{place}': {reason[:1].lower()}{reason[1:]}.", param=place) from None
    except MALFORMED as error:
        raise BadRequest(f"'{path}' is not valid JSON: {error}.", param=str(path)) from None


def decode_open(
    raw: msgspec.Raw, wanted: type[Shape], *, path: str | Place
) -> tuple[Shape, Mapping[str, msgspec.Raw]]:
    """The value, and the members that `wanted` and the structs in it do not have: unread, by their
    path in the value ("function.surprise"). `wanted` forbids unknown fields, so that a value
    without any is decoded once.
    """
    decoder = _decoders.get(wanted)
    if decoder is None:
        decoder = _decoders[wanted] = msgspec.json.Decoder(wanted)
    rest: Mapping[str, msgspec.Raw] = NO_MEMBERS
    try:
        return cast("Shape", decoder.decode(raw)), rest
    except MALFORMED:
        members = decode_member(raw, dict[str, msgspec.Raw], path=path)
    with suppress(*MALFORMED):  # a list of unlike values, which the decoder names
        raw, rest = _split(members, wanted)
    return decode_member(raw, wanted, path=path), rest


def decode_each(
    raw: msgspec.Raw, wanted: type[Shape], *, path: str
) -> list[tuple[Shape, Mapping[str, msgspec.Raw]]]:
    """`decode_open` for each entry of a list."""
    try:
        return [(value, NO_MEMBERS) for value in decode_member(raw, list[wanted], path=path)]  # type: ignore[valid-type]
    except BadRequest:
        entries = decode_member(raw, list[msgspec.Raw], path=path)
        return [decode_open(entry, wanted, path=f"{path}[{n}]") for n, entry in enumerate(entries)]


def _split(
    members: Mapping[str, msgspec.Raw], wanted: type[msgspec.Struct]
) -> tuple[msgspec.Raw, dict[str, msgspec.Raw]]:
    """The object without the members that the struct does not have, and those members."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(wanted)}
    known: dict[str, msgspec.Raw] = {}
    rest: dict[str, msgspec.Raw] = {}
    for name, value in members.items():
        if name not in fields:
            rest[name] = value
            continue
        known[name] = value
        inner = next(_structs_in(fields[name]), None)
        if inner is not None and bytes(value).startswith(b"{"):
            known[name], lost = _split(_decode_object(value), inner)
            rest |= {f"{name}.{each}": raw for each, raw in lost.items()}
        elif inner is not None and bytes(value).startswith(b"[{"):
            entries = [_split(_decode_object(entry), inner) for entry in _decode_list(value)]
            known[name] = msgspec.Raw(msgspec.json.encode([entry for entry, _ in entries]))
            for n, (_, lost) in enumerate(entries):
                rest |= {f"{name}[{n}].{each}": raw for each, raw in lost.items()}
    return msgspec.Raw(msgspec.json.encode(known)), rest


_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _structs_in(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """The structs in an annotation: `Function | None`, `list[Detail] | None`."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    for inner in get_args(kind):
        yield from _structs_in(inner)


def convert_member(value: object, wanted: type[Wanted], *, path: str) -> Wanted:
    """As `decode_member`, for a decoded value."""
    return decode_member(msgspec.Raw(msgspec.json.encode(value)), wanted, path=path)


PRESENCE = frozenset({"web_search_options"})
"""Members whose presence alone has a meaning: an empty object is not empty."""
EMPTY = frozenset({b"null", b"false", b"[]", b"{}", b'""'})


def is_empty(raw: msgspec.Raw) -> bool:
    """Whether a member has no content, so that leaving it out is no loss."""
    return bytes(raw).translate(None, b" \t\r\n") in EMPTY


def without_empty(members: Mapping[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """The members that have content."""
    return {name: raw for name, raw in members.items() if name in PRESENCE or not is_empty(raw)}


def unknown_members(
    given: Mapping[str, msgspec.Raw], known: type[msgspec.Struct], *, within: str = ""
) -> dict[str, msgspec.Raw]:
    """The members that the struct does not have, by their path from the object `within`."""
    names = known.__struct_fields__
    return {within + name: raw for name, raw in given.items() if name not in names and is_given(raw)}


class RequestMembers:
    """The members of a body without rows (embeddings). `rest` is what nobody read."""

    def __init__(self, fields: Mapping[str, msgspec.Raw], *, within: str = "") -> None:
        self._within = f"{within}." if within else ""
        self._fields = {name: raw for name, raw in fields.items() if is_given(raw)}
        self._read: set[str] = {"model", "stream"}

    def get(self, name: str, wanted: type[Wanted]) -> Wanted | None:
        self._read.add(name)
        raw = self._fields.get(name)
        return None if raw is None else decode_member(raw, wanted, path=self._within + name)

    def unread(self, name: str) -> msgspec.Raw | None:
        """The member, not decoded."""
        self._read.add(name)
        return self._fields.get(name)

    def rest(self) -> dict[str, msgspec.Raw]:
        return {name: raw for name, raw in self._fields.items() if name not in self._read}
