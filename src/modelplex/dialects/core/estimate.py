"""Tokens where nobody counted them: about as many as the text is long.

Above it stands the passage; below it the vocabulary. It knows no tokenizer: each model has its own,
and none is asked. A provider's last count is never counted again
(docs/reference/translation.md#usage), so that this is only for answers that came without usage, or
ended before it. An estimate says that it is one, and has no price in the Record; a budget counts
what it would cost.
"""

from __future__ import annotations

import re
from typing import cast

import msgspec

from modelplex.core.events import Usage
from modelplex.core.request import RawRequest

CHARACTERS_A_TOKEN = 4
"""What the usual tokenizers come to in English prose; other languages take more tokens."""
TOLD = (
    *("messages", "prompt", "input", "suffix", "tools", "functions", "system", "instructions"),
    *("query", "documents"),
    *("contents", "systemInstruction", "system_instruction"),
)
"""The members of a request that a model reads as text."""
WHOLE_REQUEST = "generateContentRequest"
"""Gemini's clients may ask for the length of a whole request, under this name."""
UNSAID = frozenset(
    "type role id call_id tool_call_id tool_use_id cache_control detail signature encrypted_content".split()
)
"""Members that say what something is, and nothing to the model."""
SOUND_AND_PICTURES = frozenset(
    {"image_url", "input_audio", "audio", "file", "file_data", "inlineData", "inline_data"}
)
"""Members that hold bytes in base64, which are not read as text."""
BYTES = ("base64", "redacted_thinking")
"""The `type` of an object that is such bytes."""


READ_LIMIT = 131_072
"""Bytes of a member up to which its texts are counted one by one, which takes some milliseconds at
worst. Of a longer one the bytes are counted, its punctuation included.
"""
_BASE64 = re.compile(rb';base64,|"data"\s*:\s*"')
"""What stands before bytes in base64, in every dialect."""


def estimated(ask: RawRequest, *, characters: int) -> Usage:
    """About what it took; `characters` is the length of the answer's text, thoughts and
    arguments.
    """
    return Usage(fresh=_asked(ask), output=_tokens(characters), estimated=True)


def billed(ask: RawRequest, usage: Usage | None, *, characters: int, counted_at: int) -> Usage:
    """What is billed for an answer of which `characters` came. A count that output came after is no
    last one (Anthropic's first says 1 token of output): then it is the larger of that count and an
    estimate.
    """
    if usage is None:
        return estimated(ask, characters=characters)
    if characters <= counted_at or (written := _tokens(characters)) <= usage.output:
        return usage
    return msgspec.structs.replace(
        usage,
        fresh=usage.fresh if usage.input else _asked(ask),
        output=written,
        estimated=True,
        iterations=(),
        raw=None,
        raw_of=None,
    )


def sealed_characters(seal: str) -> int:
    """About as many characters of thought as a seal stands for, where nobody shows them: it is
    their encryption, in base64.
    """
    return len(seal) * 3 // 4


def _tokens(characters: int) -> int:
    return -(-characters // CHARACTERS_A_TOKEN)


def _asked(ask: RawRequest) -> int:
    tokens = 0
    fields = ask.fields
    if (whole := fields.get(WHOLE_REQUEST)) is not None:
        try:
            fields = msgspec.json.decode(whole, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _tokens(len(whole))
    for name in TOLD:
        given = fields.get(name)
        if given is not None:
            tokens += _length(given)
    return tokens


def _length(raw: msgspec.Raw) -> int:
    """About how many tokens the texts in this JSON are. Token ids are counted as what they are."""
    if len(raw) > READ_LIMIT:
        return _tokens(_without_base64(bytes(raw)))
    try:
        waiting: list[object] = [msgspec.json.decode(raw)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # nobody else needed to read it
        return _tokens(len(raw))
    characters = ids = 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            characters += len(value)
        elif isinstance(value, list):
            waiting += cast("list[object]", value)
        elif isinstance(value, dict):
            members = cast("dict[str, object]", value)
            if members.get("type") in BYTES:
                continue
            waiting += [
                v for name, v in members.items() if name not in UNSAID and name not in SOUND_AND_PICTURES
            ]
        elif isinstance(value, int) and not isinstance(value, bool):
            ids += 1
    return _tokens(characters) + ids


def _without_base64(data: bytes) -> int:
    """The length without bytes in base64."""
    length, at = len(data), 0
    while (found := _BASE64.search(data, at)) is not None:
        at = data.find(b'"', found.end())
        if at < 0:
            return length - (len(data) - found.end())
        length -= at - found.end()
    return length
