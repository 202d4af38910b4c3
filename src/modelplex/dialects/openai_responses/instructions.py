"""Instructions of a Responses body that passes to a service with one system message, at the
beginning (`core/system_messages.py`): its items of `system` and `developer`.

Of other items every byte stays.
"""

from __future__ import annotations

from itertools import takewhile

import msgspec

from modelplex.core.request import Change, Quirks, RawRequest
from modelplex.dialects.core.json import MALFORMED
from modelplex.dialects.core.search import holds_any
from modelplex.dialects.core.system_messages import JOINED, NOTED
from modelplex.dialects.core.turns import INSTRUCTIONS, SYSTEM_NOTE

_MARKS = (b'"developer"', b'"system"')
_decode_input = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str | None).decode
_encode = msgspec.json.encode


class _Part(msgspec.Struct, gc=False):
    text: str = ""


class _Item(msgspec.Struct, gc=False):
    role: str | None = None
    content: str | list[_Part] | None = None

    @property
    def text(self) -> str:
        content = self.content
        return content if isinstance(content, str) else "\n\n".join(part.text for part in content or ())


class _Role(msgspec.Struct, gc=False):
    role: str | None = None


_decode_item = msgspec.json.Decoder(_Item).decode
_decode_role = msgspec.json.Decoder(_Role).decode
Amended = tuple[dict[str, msgspec.Raw | None], tuple[Change, ...]]


def amended_instructions(raw_request: RawRequest, quirks: Quirks) -> Amended | None:
    """The members that differ: `input`, and `instructions` where leading items join it; None where
    the service takes the body as it is.
    """
    raw = raw_request.fields.get("input")
    if raw is None or quirks.system_messages == "anywhere" or not holds_any(raw_request.body, _MARKS):
        return None
    try:
        return _amended(_decode_input(raw), _decode_text(raw_request.fields.get("instructions", b"null")))
    except MALFORMED:
        return None  # a text alone, or the service names what is wrong with it


def _amended(items: list[msgspec.Raw], instructions: str | None) -> Amended | None:
    roles = [_decode_role(item).role for item in items]
    count = len(list(takewhile(INSTRUCTIONS.__contains__, roles)))
    changes: list[Change] = []
    members: dict[str, msgspec.Raw | None] = {}
    later = list(items)
    if count > (0 if instructions else 1):
        texts = [instructions] if instructions else []
        texts += [_decode_item(item).text for item in items[:count]]
        changes += [Change("move", f"input[{n}]", JOINED) for n in range(count)]
        members["instructions"] = msgspec.Raw(_encode("\n\n".join(texts)))
        later = later[count:]
    kept = len(items) - len(later)
    for n in range(count, len(items)):
        if roles[n] in INSTRUCTIONS:
            changes.append(Change("lower", f"input[{n}]", NOTED))
            noted = SYSTEM_NOTE + _decode_item(items[n]).text
            later[n - kept] = msgspec.Raw(_encode({"type": "message", "role": "user", "content": noted}))
    if not changes:
        return None
    return {**members, "input": msgspec.Raw(_encode(later))}, tuple(changes)
