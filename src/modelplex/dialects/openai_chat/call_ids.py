"""Ids of calls as services take them. Mistral refuses others than nine letters and digits (400,
code 3280), OpenAI long ones.

An id depends on the given one alone, so that call and result agree on every turn.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import cast

import msgspec

from modelplex.core.request import Change, Quirks
from modelplex.dialects.core.json import MALFORMED
from modelplex.dialects.core.tool_names import LONGEST, alias

NINE = 9
_MARK = b'"tool_call'
_nine = re.compile(r"[A-Za-z0-9]{9}", re.ASCII)
_decode = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_decode_calls = msgspec.json.Decoder(list[dict[str, msgspec.Raw]] | None).decode
_Members = dict[str, msgspec.Raw]


def sent_id(given: str, quirks: Quirks, *, native: bool) -> str:
    """The id as the service takes it. `native`: the client speaks the service's form."""
    if quirks.call_ids == "nine":
        digest = hashlib.blake2s(given.encode("utf-8", "surrogatepass")).hexdigest()
        return given if _nine.fullmatch(given) else digest[:NINE]
    return given if native or len(given) <= LONGEST else alias(given)


def amended_ids(
    fields: Mapping[str, msgspec.Raw], quirks: Quirks
) -> tuple[msgspec.Raw, tuple[Change, ...]] | None:
    """`messages` of a body that passes with the ids of its calls as the service takes them; None
    where they are.
    """
    raw = fields.get("messages")
    if quirks.call_ids == "any" or raw is None or _MARK not in bytes(raw):
        return None
    try:
        messages = _decode(raw)
        changes = tuple(
            change
            for n, message in enumerate(messages)
            for change in _amend(message, quirks, f"messages[{n}]")
        )
    except MALFORMED:
        return None  # the service names what is wrong with it
    return (msgspec.Raw(msgspec.json.encode(messages)), changes) if changes else None


def id_marks(quirks: Quirks) -> tuple[bytes, ...]:
    """A body without these marks has no id that `amended_ids` changes."""
    return () if quirks.call_ids == "any" else (_MARK,)


def _amend(message: _Members, quirks: Quirks, path: str) -> list[Change]:
    changes = _amend_id(message, "tool_call_id", quirks, path)
    if "tool_calls" in message:
        calls = cast("list[_Members]", _decode_calls(message["tool_calls"]) or [])
        renamed = [
            change
            for n, call in enumerate(calls)
            for change in _amend_id(call, "id", quirks, f"{path}.tool_calls[{n}]")
        ]
        if renamed:
            message["tool_calls"] = msgspec.Raw(msgspec.json.encode(calls))
            changes += renamed
    return changes


def _amend_id(holder: _Members, name: str, quirks: Quirks, path: str) -> list[Change]:
    given: object = msgspec.json.decode(holder[name]) if name in holder else None
    if not isinstance(given, str) or (sent := sent_id(given, quirks, native=True)) == given:
        return []
    holder[name] = msgspec.Raw(msgspec.json.encode(sent))
    return [Change("rename", f"{path}.{name}", f"sent as {sent}")]
