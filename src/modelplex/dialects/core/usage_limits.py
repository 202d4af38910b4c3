"""Recognises a provider's error that says that an account's usage limit is reached, and when it is
reset.

It is a quota and no rate: a retry within seconds fails as well. What providers say is in
usage_limits.toml. Imports no dialect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache

from modelplex.dialects.core.context_overflow import LONGEST, Sayings, read_sayings
from modelplex.dialects.core.retry_after import read_seconds

_CODE_STATUSES = frozenset({0, 403, 429})
"""With which a code decides. 402 is the status of an account without credit, for every code."""
_PHRASE_STATUSES = frozenset({0, 400, 403, 429})
_RESET = re.compile(
    r"(?:access on|reset(?:s)? (?:at|on)) (\d{4}-\d\d-\d\d)(?: at|T)? ?(\d\d:\d\d(?::\d\d)?) ?(?:UTC|Z)\b"
)
"""A time without its zone is not read: it is that of the service's country."""
_RESET_HEADER = "anthropic-ratelimit-unified-reset"
"""Unix seconds (docs/reference/wire-formats.md#errors-and-retry-headers)."""


def sayings() -> Mapping[str, Sayings]:
    """The tables by name."""
    return read_sayings("usage_limits.toml")


@cache
def _known() -> tuple[frozenset[str], re.Pattern[str]]:
    tables = sayings().values()
    phrases = "|".join(f"(?:{phrase})" for table in tables for phrase in table.phrases)
    return frozenset(code for table in tables for code in table.codes), re.compile(phrases)


def is_usage_limit(status: int, message: str, *names: str | None) -> bool:
    """Whether an error says that a usage limit is reached. `names` are its code and type; `status`
    is 0 inside a 200.
    """
    codes, phrases = _known()
    if status in _CODE_STATUSES and not codes.isdisjoint(names):
        return True
    return status in _PHRASE_STATUSES and phrases.search(message[:LONGEST].lower()) is not None


def seconds_to_reset(message: str, error: Mapping[str, object], headers: Mapping[str, str]) -> float | None:
    """Seconds until the limit is reset, by the error object, a header or the message; None where
    none tells. Times are relative to the response's own `date`.
    """
    relative = error.get("resets_in_seconds")
    if isinstance(relative, int | float) and relative >= 0:
        return float(relative)
    at = error.get("resets_at")
    if not isinstance(at, int | float):
        at = read_seconds(headers.get(_RESET_HEADER, "")) or _time_in(message)
    now = _date(headers)
    return None if at is None or now is None else max(0.0, float(at) - now)


def _time_in(message: str) -> float | None:
    found = _RESET.search(message[:LONGEST])
    if found is None:
        return None
    try:
        return datetime.fromisoformat(f"{found[1]}T{found[2]}").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _date(headers: Mapping[str, str]) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (ValueError, TypeError):
        return None
