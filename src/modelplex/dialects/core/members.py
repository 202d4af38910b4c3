"""The members of a request's top level, each decoded where it is asked for.

Above it stand the readers of OpenAI's requests; below it msgspec and the error tree. It knows no
member by name, but for those that every OpenAI form has. A wrong value is told by its place, as a
path that the client can find.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.dialects.core.json import MALFORMED, is_given

Wanted = TypeVar("Wanted")

_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def decode_member(raw: msgspec.Raw, wanted: type[Wanted], *, path: str) -> Wanted:
    """The value at `path`, typed. Raises BadRequest that names the place inside it which
    is wrong.
    """
    decoder = _decoders.get(wanted)
    if decoder is None:
        decoder = _decoders[wanted] = msgspec.json.Decoder(wanted)
    try:
        return cast("Wanted", decoder.decode(raw))
    except msgspec.ValidationError as error:
        said, at, inside = str(error).rpartition(" - at `$")
        said, place = (said, path + inside.removesuffix("`")) if at else (str(error), path)
        raise BadRequest(f"'{place}': {said[:1].lower()}{said[1:]}.", param=place) from None
    except MALFORMED as error:
        raise BadRequest(f"'{path}' is not valid JSON: {error}.", param=path) from None


def convert_member(value: object, wanted: type[Wanted], *, path: str) -> Wanted:
    """As `decode_member`, of a value that is decoded already."""
    return decode_member(msgspec.Raw(msgspec.json.encode(value)), wanted, path=path)


PRESENCE = frozenset({"web_search_options"})
"""Members that ask for something by being there: their empty object is not empty."""
EMPTY = frozenset({b"null", b"false", b"[]", b"{}", b'""'})


def is_empty(raw: msgspec.Raw) -> bool:
    """Whether an unread member asks for nothing, so that leaving it out is no loss."""
    return bytes(raw).translate(None, b" \t\r\n") in EMPTY


def without_empty(members: Mapping[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """The members whose loss would be one."""
    return {name: raw for name, raw in members.items() if name in PRESENCE or not is_empty(raw)}


def unknown_members(
    given: Mapping[str, msgspec.Raw], known: type[msgspec.Struct], *, within: str = ""
) -> dict[str, msgspec.Raw]:
    """The members that the struct does not have, by their path from the object `within`."""
    names = known.__struct_fields__
    return {within + name: raw for name, raw in given.items() if name not in names and is_given(raw)}


class RequestMembers:
    """The top level of a request's body, or of the object at `within`: each member is read once,
    and what nobody read is what rides along.
    """

    def __init__(self, fields: Mapping[str, msgspec.Raw], *, within: str = "") -> None:
        self._within = f"{within}." if within else ""
        self._fields = {name: raw for name, raw in fields.items() if is_given(raw)}
        self._read: set[str] = {"model", "stream"}

    def get(self, name: str, wanted: type[Wanted]) -> Wanted | None:
        self._read.add(name)
        raw = self._fields.get(name)
        return None if raw is None else decode_member(raw, wanted, path=self._within + name)

    def unread(self, name: str) -> msgspec.Raw | None:
        """The member as it is, to be carried unread."""
        self._read.add(name)
        return self._fields.get(name)

    def rest(self) -> dict[str, msgspec.Raw]:
        return {name: raw for name, raw in self._fields.items() if name not in self._read}
