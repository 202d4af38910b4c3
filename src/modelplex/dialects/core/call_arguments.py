"""Arguments of tool calls: as a JSON object, and how deep they may be nested."""

from __future__ import annotations

import re

import msgspec

from modelplex.core.request import ToolCallPart
from modelplex.dialects.core.json import MALFORMED
from modelplex.dialects.core.losses import Losses
from modelplex.dialects.core.surrogates import mended_text

MAX_DEPTH = 128
"""Levels of nesting, as for a whole body: real ones stay below 30, and parsers give up at about a
thousand.
"""

NOT_AN_OBJECT = 'arguments that are not a JSON object are sent as {"_raw": text}'
_string = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_bracket = re.compile(r"[\[\]{}]")
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def as_object(part: ToolCallPart, losses: Losses) -> msgspec.Raw:
    """The arguments for a provider that takes a JSON object; other text is wrapped in one."""
    if part.free:
        return msgspec.Raw(msgspec.json.encode({"input": part.arguments}))
    text = mended_text(part.arguments)
    try:
        _decode_object(text)
    except MALFORMED:
        if not text.strip():
            return msgspec.Raw(b"{}")
        losses.lower(part.at.member("arguments"), NOT_AN_OBJECT)
        return msgspec.Raw(msgspec.json.encode({"_raw": text}))
    return msgspec.Raw(text.encode())


def is_too_deep(text: str) -> bool:
    """Whether this JSON text is nested deeper than MAX_DEPTH. Linear, and without recursion."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return False
    depth = 0
    for bracket in _bracket.findall(_string.sub("", text)):
        depth += 1 if bracket in "{[" else -1
        if depth > MAX_DEPTH:
            return True
    return False
