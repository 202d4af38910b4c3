"""Reads from headers and messages how many seconds a provider asks clients to wait.

No clock: dates are relative to the response's own `date` (RFC 9110, 10.2.3). Imports nothing of
Modelplex.
"""

from __future__ import annotations

from collections.abc import Mapping


def read_delay(headers: Mapping[str, str]) -> float | None:
    """`retry-after-ms`, then `retry-after`: seconds, or an HTTP date. None where neither is
    readable.
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
    """A finite number of seconds, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
