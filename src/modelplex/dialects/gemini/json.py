"""Gemini's JSON as it is met: members in camelCase or snake_case, lists that may be a single
object, signatures in base64.

Above it stand the other files of this dialect; below it the vocabulary. Google's own parser reads
both spellings of every member, so that clients send both (protobuf's JSON mapping); inside tool
arguments, results and schemas the names are the user's and stay as they are.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TypeVar

import msgspec

from modelplex.core.request import OpaqueState
from modelplex.dialects.core.envelope import MARK, unwrap, wrap
from modelplex.dialects.core.json import is_given
from modelplex.dialects.core.members import decode_member

DIALECT = "gemini"
STATE_FORMAT = "google-gemini-v1"
"""What a `thoughtSignature` is called
(docs/reference/wire-formats.md#openai-compatible-servers).
"""

ON_TEXT = "text"
ON_ITS_OWN = "part"
"""A signature returns on the part that it came on (R16). Where that part was no thought and no
call, these, as the Seal's `id`, say where it was: on a part with text, or on a part that had
nothing else. Clients of other dialects keep a state but not its place.
"""
REDACTED = "redacted"
"""The same for another provider's state that goes through a Gemini client: its thinking had no
readable text.
"""

Wanted = TypeVar("Wanted")
_HUMP = re.compile(r"(?<!^)([A-Z])")


def camel(name: str) -> str:
    """`system_instruction` as `systemInstruction`."""
    head, *rest = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest) if head else name


def snake(name: str) -> str:
    """`systemInstruction` as `system_instruction`."""
    return _HUMP.sub(r"_\1", name).lower()


def members_of(raw: msgspec.Raw, *, path: str) -> dict[str, msgspec.Raw]:
    """An object's members by their camelCase names, nulls left out. Raises BadRequest."""
    given = decode_member(raw, dict[str, msgspec.Raw], path=path)
    return {camel(name): value for name, value in given.items() if is_given(value)}


def read(raw: msgspec.Raw, wanted: type[Wanted], *, path: str) -> Wanted:
    """An object, typed, whichever way its members are spelt. Raises BadRequest that names the
    place.
    """
    if b"_" not in bytes(raw):
        return decode_member(raw, wanted, path=path)
    named = members_of(raw, path=path)
    return decode_member(msgspec.Raw(msgspec.json.encode(named)), wanted, path=path)


def read_list(raw: msgspec.Raw, *, path: str) -> list[msgspec.Raw]:
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
