"""Tokens where nobody counted them: about as many as the text is long.

Above it stands the passage; below it the vocabulary. It knows no tokenizer: each model has its own, and none is asked. What a provider counted is never counted again
(wires.md 3.6), so that this is only for answers that came without usage. An estimate says that it is one, and has no price.
"""

from __future__ import annotations

from typing import cast

import msgspec

from modelplex.call import Ask
from modelplex.event import Usage

CHARACTERS_A_TOKEN = 4
"""What the usual tokenizers come to in English prose; other languages take more tokens."""
TOLD = (
    *("messages", "prompt", "input", "suffix", "tools", "functions", "system", "instructions"),
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


def estimated(ask: Ask, *, characters: int) -> Usage:
    """About what it took; `characters` is the length of the answer's text, thoughts and arguments."""
    return Usage(fresh=_asked(ask), output=_tokens(characters), estimated=True)


def _tokens(characters: int) -> int:
    return -(-characters // CHARACTERS_A_TOKEN)


def _asked(ask: Ask) -> int:
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
