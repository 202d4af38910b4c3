"""Gemini's JSON: members in camelCase or snake_case, lists that may be a single object, signatures
in base64.

Google's parser reads both spellings of every member, and clients send both (protobuf's JSON
mapping). Inside tool arguments, results and schemas the names are the user's and stay as they are.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TypeVar

import msgspec

from modelplex.core.request import OpaqueState, Place
from modelplex.dialects.core.envelope import MARK, unwrap, wrap
from modelplex.dialects.core.json import is_given
from modelplex.dialects.core.members import decode_member, decode_open

DIALECT = "gemini"
STATE_FORMAT = "google-gemini-v1"
"""The format of a `thoughtSignature` (docs/reference/wire-formats.md#openai-compatible-servers)."""

ON_TEXT = "text"
ON_ITS_OWN = "part"
"""Values of OpaqueState.id. A signature returns on the part that it came on (R16): these say that
it was on a part with text, or on a part that had nothing else. Clients of other dialects keep the
state but not its place.
"""
REDACTED = "redacted"
"""The same for state of another provider in a Gemini client: its thinking had no readable text."""

Wanted = TypeVar("Wanted", bound=msgspec.Struct)
_HUMP = re.compile(r"(?<!^)([A-Z])")
_snake_part = re.compile(
    rb'"(?:function_call|function_response|thought_signature|inline_data|file_data|display_name)"'
)


def camel(name: str) -> str:
    """`system_instruction` as `systemInstruction`."""
    head, *rest = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest) if head else name


def snake(name: str) -> str:
    """`systemInstruction` as `system_instruction`."""
    return _HUMP.sub(r"_\1", name).lower()


def members_of(raw: msgspec.Raw, *, path: str | Place) -> dict[str, msgspec.Raw]:
    """An object's members by their camelCase names, nulls left out. Raises BadRequest."""
    given = decode_member(raw, dict[str, msgspec.Raw], path=path)
    return {camel(name): value for name, value in given.items() if is_given(value)}


def read(raw: msgspec.Raw, wanted: type[Wanted], *, path: str | Place) -> Wanted:
    """An object, typed, in either spelling. Raises BadRequest that names the place."""
    return decode_member(_in_camel_case(raw, wanted, path), wanted, path=path)


def read_open(
    raw: msgspec.Raw, wanted: type[Wanted], *, path: str | Place
) -> tuple[Wanted, Mapping[str, msgspec.Raw]]:
    """The same, and the members that `wanted` does not have, by the client's names."""
    value, rest = decode_open(_in_camel_case(raw, wanted, path), wanted, path=path)
    return value, {_spell(raw, name): member for name, member in rest.items()} if rest else rest


def _in_camel_case(raw: msgspec.Raw, wanted: type[msgspec.Struct], path: str | Place) -> msgspec.Raw:
    names = _snake_names(wanted)
    if names is None or names.search(raw) is None:
        return raw
    return msgspec.Raw(msgspec.json.encode(members_of(raw, path=path)))


@lru_cache(maxsize=32)
def _snake_names(wanted: type[msgspec.Struct]) -> re.Pattern[bytes] | None:
    """Matches a member of the struct in snake_case; None for a struct of one-word members."""
    names = [name for name in wanted.__struct_fields__ if "_" in name]
    return re.compile(f'"(?:{"|".join(names)})"'.encode()) if names else None


def is_snake_case(raw: msgspec.Raw) -> bool:
    """Whether a part has a member in snake_case."""
    return _snake_part.search(raw) is not None


def spelling(raw: msgspec.Raw, path: str) -> str:
    """A path of camelCase members inside a part as the client spells it."""
    if not is_snake_case(raw):
        return path
    return ".".join(_spell(raw, name) for name in path.split("."))


def _spell(raw: msgspec.Raw, name: str) -> str:
    spelt = snake(name)
    return spelt if f'"{spelt}"'.encode() in bytes(raw) else name


def read_list(raw: msgspec.Raw, *, path: str | Place) -> list[msgspec.Raw]:
    """A list, or the one object that stands for a list of one, which Google's parser takes too."""
    if bytes(raw).lstrip()[:1] == b"{":
        return [raw]
    return decode_member(raw, list[msgspec.Raw], path=path)


def standard(data: str) -> str:
    """Base64 in the alphabet that every other dialect has. Google's parser takes both, and its
    official clients write the other one.
    """
    return data.replace("-", "+").replace("_", "/")


def as_signature(state: OpaqueState, *, redacted: bool = False) -> str:
    """A state as a client's `thoughtSignature`, with its origin. It is base64, since official
    clients decode it into bytes.
    """
    if redacted and state.id is None:
        state = msgspec.structs.replace(state, id=REDACTED)
    return base64.urlsafe_b64encode(wrap(state).encode()).decode("ascii")


def read_signature(signature: str) -> OpaqueState:
    """What was wrapped by `as_signature` is unwrapped; any other signature is Google's own, of an
    origin that is not known.
    """
    try:
        # Official clients hold it as bytes and write it back in either alphabet of base64.
        text = base64.b64decode(standard(signature), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    found = unwrap(text) if text.startswith(MARK) else None
    return found or OpaqueState(STATE_FORMAT, signature)
