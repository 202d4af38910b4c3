"""Estimates tokens by the length of the text where the provider reported no usage.

There is no tokenizer: each model has its own. A provider's last count is used as it is
(docs/reference/translation.md#usage); estimates are for responses without usage, or that ended
before it. An estimate is marked as one and has no price in the Record; a budget counts what it
would cost.
"""

from __future__ import annotations

import re
from typing import cast

import msgspec

from modelplex.core.events import Usage
from modelplex.core.request import RawRequest

CHARACTERS_A_TOKEN = 4
"""The average of common tokenizers in English prose; other languages take more tokens."""
PROMPT_MEMBERS = (
    *("messages", "prompt", "input", "suffix", "tools", "functions", "system", "instructions"),
    *("query", "documents"),
    *("contents", "systemInstruction", "system_instruction"),
)
"""The members of a request that a model reads as text."""
WHOLE_REQUEST = "generateContentRequest"
"""Gemini's countTokens: the member that holds a whole request."""
IGNORED_MEMBERS = frozenset(
    "type role id call_id tool_call_id tool_use_id cache_control detail signature encrypted_content".split()
)
"""Members that are not part of the prompt's text."""
MEDIA_MEMBERS = frozenset(
    {"image_url", "input_audio", "audio", "file", "file_data", "inlineData", "inline_data"}
)
"""Members that hold bytes in base64, which are not read as text."""
BINARY_TYPES = ("base64", "redacted_thinking")
"""The `type` of an object that holds such bytes."""


READ_LIMIT = 131_072
"""Bytes of a member up to which its texts are counted one by one, which takes some milliseconds at
most. Of a longer member the bytes are counted, punctuation included.
"""
SLICE = 262_144
"""Bytes of a longer member that are searched at once, so that other threads run in between."""
LONGEST_MARK = 64
"""Bytes in which a mark that begins at the end of a slice ends."""
MAX_MARKS = 8_192
"""Marks that are looked at, which takes 10 ms; what follows more of them is counted as text."""
DATA_URL = b";base64,"
DATA_MEMBER = b'"data"'
_DATA_TEXT = re.compile(rb'"data"\s*:\s*"')
"""With the above, what stands before bytes in base64, in every dialect."""


def estimated(raw_request: RawRequest, *, characters: int) -> Usage:
    """The estimated usage; `characters` is the length of the response's text, reasoning and
    arguments.
    """
    return Usage(fresh=_prompt_tokens(raw_request), output=_tokens(characters), estimated=True)


def billed(raw_request: RawRequest, usage: Usage | None, *, characters: int, counted_at: int) -> Usage:
    """The billed usage of a response with `characters`, of which `counted_at` were counted in
    `usage`. Where more output followed (Anthropic's first count is 1 token of output), output is
    the larger of the count and an estimate.
    """
    if usage is None:
        return estimated(raw_request, characters=characters)
    if characters <= counted_at or (written := _tokens(characters)) <= usage.output:
        return usage
    return msgspec.structs.replace(
        usage,
        fresh=usage.fresh if usage.input else _prompt_tokens(raw_request),
        output=written,
        estimated=True,
        iterations=(),
        raw=None,
        raw_of=None,
    )


def hidden_characters(state: str) -> int:
    """Estimated characters of hidden reasoning in opaque state, which is their encryption in
    base64.
    """
    return len(state) * 3 // 4


def _tokens(characters: int) -> int:
    return -(-characters // CHARACTERS_A_TOKEN)


def _prompt_tokens(raw_request: RawRequest) -> int:
    tokens = 0
    fields = raw_request.fields
    if (whole := fields.get(WHOLE_REQUEST)) is not None:
        try:
            fields = msgspec.json.decode(whole, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _tokens(len(whole))
    for name in PROMPT_MEMBERS:
        given = fields.get(name)
        if given is not None:
            tokens += _length(given)
    return tokens


def _length(raw: msgspec.Raw) -> int:
    """Estimated tokens of the texts in this JSON. Token ids count one each."""
    if len(raw) > READ_LIMIT:
        return _tokens(_without_base64(memoryview(raw)))
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
            if members.get("type") in BINARY_TYPES:
                continue
            waiting += [
                v for name, v in members.items() if name not in IGNORED_MEMBERS and name not in MEDIA_MEMBERS
            ]
        elif isinstance(value, int) and not isinstance(value, bool):
            ids += 1
    return _tokens(characters) + ids


def _without_base64(data: memoryview) -> int:
    """The length without bytes in base64. A mark is found by `find`: a regular expression takes 4
    ms for each megabyte.
    """
    length, inside, at, left = len(data), False, 0, MAX_MARKS
    for start in range(0, len(data), SLICE):
        piece, size = bytes(data[start : start + SLICE + LONGEST_MARK]), min(SLICE, len(data) - start)
        marks: dict[bytes, int] = dict.fromkeys((DATA_URL, DATA_MEMBER), -2)
        while at < size:
            left -= 1
            if left < 0:
                return length
            if inside:
                end = piece.find(b'"', at, size)
                length -= (size if end < 0 else end) - at
                at, inside = (size, True) if end < 0 else (end + 1, False)
            else:
                at, inside = _next_base64(piece, at, size, marks)
        at -= size  # a mark may end in the next slice
    return length


def _next_base64(piece: bytes, at: int, size: int, marks: dict[bytes, int]) -> tuple[int, bool]:
    """Where the next bytes in base64 begin, and True; or `size`, or the end of a mark that is none,
    and False. `marks` has where each mark was last found: -2 before the first search, -1 for
    nowhere.
    """
    for mark, found in marks.items():
        if found == -2 or 0 <= found < at:
            marks[mark] = piece.find(mark, at, size + len(mark) - 1)
    found, mark = min(((found, mark) for mark, found in marks.items() if found >= 0), default=(-1, b""))
    if found < 0:
        return size, False
    if mark == DATA_URL:
        return found + len(mark), True
    matched = _DATA_TEXT.match(piece, found)
    return (matched.end(), True) if matched else (found + len(mark), False)
