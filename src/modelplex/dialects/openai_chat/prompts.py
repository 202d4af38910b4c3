"""Reads the prompts of completions and the inputs of embeddings: one text, several, one list of
token ids, or several.
"""

from __future__ import annotations

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.dialects.core.members import decode_member

Prompt = str | tuple[int, ...]


MAX_INPUTS = 10_000
"""Texts of a translated request. OpenAI takes 2,048
(platform.openai.com/docs/api-reference/embeddings/create). In Gemini's form each becomes an object,
thirty times as large as a text of one letter.
"""


def check_inputs(count: int, *, path: str) -> None:
    """Raises BadRequest for too many."""
    if count > MAX_INPUTS:
        raise BadRequest(f"'{path}' has {count} entries, and at most {MAX_INPUTS} are taken.", param=path)


def read_prompts(raw: msgspec.Raw, *, path: str) -> tuple[Prompt, ...]:
    """The texts or lists of token ids, in order. Raises BadRequest for others, and for none."""
    text = bytes(raw).lstrip()
    if text.startswith(b'"'):
        return (decode_member(raw, str, path=path),)
    items = decode_member(raw, list[msgspec.Raw], path=path)
    if not items:
        raise BadRequest(f"'{path}' is empty.", param=path)
    first = bytes(items[0]).lstrip()
    if first[:1].isdigit():
        return (tuple(decode_member(raw, list[int], path=path)),)
    check_inputs(len(items), path=path)
    if first.startswith(b"["):
        return tuple(tuple(ids) for ids in decode_member(raw, list[list[int]], path=path))
    return tuple(decode_member(raw, list[str], path=path))
