"""What of a server's own lines is told: so many and no more, however long it goes on."""

from modelplex.mcp.server_output import (
    BYTES,
    BYTES_A_SECOND,
    LAST_LENGTH,
    LAST_LINES,
    LINES,
    LINES_A_SECOND,
    OVERHEAD,
    LastLines,
    LogAllowance,
)

DAY = 86_400


def told(allowance: LogAllowance, *, size: int, seconds: int, a_second: int) -> int:
    """How many lines of a flood are told."""
    return sum(
        allowance.allows(size, now + part / a_second) for now in range(seconds) for part in range(a_second)
    )


def test_a_flood_of_lines_is_logged_in_part() -> None:
    assert told(LogAllowance(), size=1, seconds=100, a_second=50) <= LINES + 100 * LINES_A_SECOND
    assert told(LogAllowance(), size=1, seconds=1, a_second=50) == 50


def test_a_day_of_long_lines_stays_within_a_hundred_megabytes() -> None:
    lines = told(LogAllowance(), size=1_000, seconds=DAY, a_second=3)
    assert lines * (1_000 + OVERHEAD) <= BYTES + DAY * BYTES_A_SECOND < 100_000_000


def test_left_out_lines_are_counted_at_intervals() -> None:
    allowance = LogAllowance()
    assert told(allowance, size=1, seconds=1, a_second=150) <= LINES + 2
    counts = [allowance.left_out(now) for now in (20.0, 20.1)]
    assert counts[0] >= 48
    assert counts[1] == 0
    told(allowance, size=1, seconds=1, a_second=150)
    assert allowance.left_out(21.0) == 0  # a moment ago
    assert allowance.left_out(21.0, over=True) > 0


def test_a_clock_that_goes_back_adds_no_allowance() -> None:
    allowance = LogAllowance()
    while allowance.allows(1, 1_000.0):
        pass
    assert not allowance.allows(1, 0.0)


def test_the_last_lines_are_kept_and_cut() -> None:
    words = LastLines()
    for number in range(50):
        words.add(f"{number} " + "x" * 1_000)
    words.add("")
    assert [line.split()[0] for line in words.lines] == [str(number) for number in range(50 - LAST_LINES, 50)]
    assert {len(line) for line in words.lines} == {LAST_LENGTH}
