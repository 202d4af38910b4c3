"""How long a provider asks to be left alone: what its headers and its words say of it, in seconds.

PURE. Above it stand the dialects' readers of errors; below it nothing. No clock: the distance of a
date is told by the answer's own `date` (RFC 9110 10.2.3).
"""

from __future__ import annotations

from collections.abc import Mapping


def read_delay(headers: Mapping[str, str]) -> float | None:
    """`retry-after-ms`, then `retry-after`: seconds, or an HTTP date. None where neither says
    anything that can be read.
    """
    milliseconds = read_seconds(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    given = headers.get("retry-after", "")
    seconds = read_seconds(given)
    if seconds is not None or "date" not in headers or not given:
        return seconds
    from email.utils import parsedate_to_datetime

    try:
        distance = (parsedate_to_datetime(given) - parsedate_to_datetime(headers["date"])).total_seconds()
    except (ValueError, TypeError):
        return None
    return max(0.0, distance)


def read_seconds(text: str) -> float | None:
    """A number that can be waited for, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
