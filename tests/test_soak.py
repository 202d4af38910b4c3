"""The soak: its checks, and a short run with a real gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks import soak, soak_hostile
from benchmarks.soak import MEMORY_LIMIT_MB, Outcome, percentile, table

FINE = Outcome(
    quiet={"chat": [0.001] * 99 + [0.004]},
    hostile={"chat": [0.001] * 99 + [0.010]},
    memory_mb=[60.0, 90.0],
    wrong={},
    asked=200,
    exit_code=None,
    done={"refused bodies 429": 7},
)


def fault(**other: Any) -> str:
    (only,) = msgspec.structs.replace(FINE, **other).faults()
    return only


def test_good_measurements_have_no_fault() -> None:
    assert FINE.faults() == []


def test_each_fault_is_reported() -> None:
    assert fault(memory_mb=[60.0, MEMORY_LIMIT_MB + 1]) == "The gateway took 201 MB, and may take 200."
    assert "which is 5.0 times the quiet 4.0 ms" in fault(hostile={"chat": [0.001] * 98 + [0.020] * 2})
    assert "1 of 200 answers were wrong" in fault(wrong={"chat: 500 b''": 1})
    assert fault(exit_code=-9) == "The gateway ended with status -9."
    assert fault(hostile={}) == "The good caller got no answer."


def test_latency_may_be_left_out() -> None:
    slow = msgspec.structs.replace(FINE, hostile={"chat": [9.0]})
    assert slow.faults(judge_latency=False) == []


def test_a_percentile_of_few_is_the_worst_of_them() -> None:
    assert percentile([]) == 0.0
    assert percentile([1.0, 3.0, 2.0]) == 3.0
    assert percentile([float(n) for n in range(1000)]) == 990.0


def test_the_table_has_every_kind_memory_and_what_was_done() -> None:
    rows = table(FINE).splitlines()
    assert "| chat | 1.0 ms | 4.0 ms | 1.0 ms | 10.0 ms | 10.0 ms |" in rows
    assert "| peak | 90 |" in rows
    assert "| refused bodies 429 | 7 |" in rows


def test_every_hostile_caller_is_there() -> None:
    for name in soak_hostile.CALLERS:
        assert callable(getattr(soak_hostile.Hostile, name))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_short_soak_beside_refused_incomplete_and_idle_requests(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Checks memory and responses, but not latency, since other tests run at the same time."""
    only = ["refused", "limited", "unfinished", "slow", "idle", "tools", "sessions", "circuits", "hang_ups"]
    status = soak.main(["--minutes", "0.25", "--no-latency", "--only", *only])
    told = capsys.readouterr().out
    assert status == 0, told
    assert "refused bodies 404" in told
    assert "idle connections" in told
