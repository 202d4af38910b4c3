"""Numbers, times and tables as text for a terminal. Pure."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from typing import Final

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
GAP: Final = "  "


def plain(text: str) -> str:
    """The text with control characters escaped, except line feeds and tabs: what agents and models
    write must not control the terminal.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def line(text: str) -> str:
    """The same on one line."""
    return plain(text).replace("\n", "\\n").replace("\t", "\\t")


def count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def money(usd: float) -> str:
    """US dollars, with four significant digits below one."""
    return f"${usd:.2f}" if usd >= 1 or usd == 0 else f"${usd:.4g}"


def local_time(at: float) -> str:
    return dt.datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def since(text: str, *, now: float) -> float:
    """Unix seconds of "7d" (s, m, h, d or w before now) or "2026-12-01" (UTC). Raises
    ValueError.
    """
    if (found := _SPAN.fullmatch(text)) is not None:
        return now - float(found[1]) * _UNITS[found[2]]
    try:
        day = dt.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=dt.UTC)
    except ValueError:
        raise ValueError(
            f'"{text}" is neither a time span such as 7d, 12h or 30m nor a day such as 2026-12-01'
        ) from None
    return day.timestamp()


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()
) -> list[str]:
    """Lines with aligned columns; those of `right` are aligned to the right."""
    cells = [list(head), *([line(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return [
        GAP.join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
