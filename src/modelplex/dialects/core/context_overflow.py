"""Recognises a provider's error that says that a conversation does not fit the model's context.

Agents compact a conversation after it, and only if they recognise it: Claude Code by the words
"prompt is too long", Codex by the code `context_length_exceeded`. So every dialect reads such an
error as a BadRequest with the code `core.errors.OVERFLOW`. What providers say is in
context_overflow.toml.
Imports no dialect.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Mapping
from functools import cache

import msgspec

STATUSES = frozenset({0, 200, 400, 403, 413, 422, 500, 502})
"""Statuses with which it was seen; 0 and 200 are of an error inside a stream. Together answers 403
(https://docs.together.ai/docs/error-codes), Ollama's runner 500.
"""
LONGEST = 2000
"""Characters of a message that are searched; some providers repeat the prompt in it."""
_ABOUT_RATES = re.compile(r"rate.?limit|too many requests|per (?:minute|day|hour)|\bquota\b|\btp[md]\b")
"""In messages about limits of time: "Too many tokens, please wait before trying again"."""


class Sayings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What one service says, of context_overflow.toml or usage_limits.toml. With `statuses` its
    phrases decide too.
    """

    said: tuple[str, ...]
    source: tuple[str, ...]
    codes: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()


def read_sayings(file: str) -> Mapping[str, Sayings]:
    """The tables of a file beside this one, by name."""
    data = pkgutil.get_data(__name__, file)
    if data is None:
        raise FileNotFoundError(f"{file} is missing from the package")
    return msgspec.toml.decode(data, type=dict[str, Sayings])


def sayings() -> Mapping[str, Sayings]:
    """The tables by name."""
    return read_sayings("context_overflow.toml")


@cache
def _codes() -> frozenset[str]:
    return frozenset(code for table in sayings().values() for code in table.codes)


@cache
def _phrases(status: int) -> re.Pattern[str] | None:
    """The phrases that decide with this status; None for none. Read at the first error."""
    tables = [table for table in sayings().values() if status in STATUSES or status in table.statuses]
    phrases = "|".join(f"(?:{phrase})" for table in tables for phrase in table.phrases)
    return re.compile(phrases) if phrases else None


def is_overflow(status: int, message: str, *names: str | None) -> bool:
    """Whether an error says that the conversation is too long. `names` are its code and type;
    `status` is 0 inside a 200.
    """
    if status in STATUSES and not _codes().isdisjoint(names):
        return True
    phrases = _phrases(0 if status in STATUSES else status)
    text = message[:LONGEST].lower()
    return phrases is not None and phrases.search(text) is not None and _ABOUT_RATES.search(text) is None
