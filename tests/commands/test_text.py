"""Numbers, times and tables."""

from __future__ import annotations

import pytest

from modelplex.commands import text


def test_what_others_write_does_not_control_the_terminal() -> None:
    assert text.plain("a\x1b[2J\n\tb\x7f\u202e") == "a\\x1b[2J\n\tb\\x7f\\u202e"
    assert text.line("a\nb") == "a\\nb"
    assert text.plain("\ud800 ünï") == "\\ud800 ünï"


@pytest.mark.parametrize(
    ("usd", "shown"), [(0.0, "$0.00"), (12.345, "$12.35"), (0.0123456, "$0.01235"), (2e-07, "$2e-07")]
)
def test_money(usd: float, shown: str) -> None:
    assert text.money(usd) == shown


def test_times() -> None:
    assert text.since("7d", now=1_000_000.0) == 1_000_000.0 - 7 * 86_400
    assert text.since("1.5h", now=10_000.0) == 10_000.0 - 5_400
    assert text.since("2026-12-01", now=0.0) == 1_796_083_200.0
    with pytest.raises(ValueError, match="yesterday"):
        text.since("yesterday", now=0.0)


def test_a_table_is_aligned_and_each_row_is_a_line() -> None:
    assert text.table(("name", "n"), [("a\nb", "1"), ("c", "100")], right=frozenset({1})) == [
        "name    n",
        "a\\nb    1",
        "c     100",
    ]


def test_counts() -> None:
    assert [text.count(number, "call") for number in (0, 1, 2)] == ["0 calls", "1 call", "2 calls"]
