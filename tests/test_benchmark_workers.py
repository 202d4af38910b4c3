"""The benchmark's table of workers."""

import pytest

from benchmarks import workers
from benchmarks.workers import FOR_CPU, REQUESTS, table


@pytest.mark.parametrize(
    ("two", "verdict"), [(1700.0, "1.70 | at least 1.7: met"), (1690.0, "1.69 | at least 1.7: MISSED")]
)
def test_two_workers_have_to_serve_more(two: float, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LOAD_CORES", frozenset({8}))
    row = table({("500 B", REQUESTS, 1): 1000.0, ("500 B", REQUESTS, 2): two}).splitlines()[-1]
    assert row == f"| 500 B, requests a second | 1,000 | {two:,.0f} | {verdict} |"


def test_on_two_cores_the_load_is_named_and_cpu_time_says_what_free_ones_would_give(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "LOAD_CORES", workers.GATEWAY_CORES)
    medians = {
        ("500 B", REQUESTS, 1): 1000.0,
        ("500 B", REQUESTS, 2): 1200.0,
        ("500 B", FOR_CPU, 1): 4000.0,
        ("500 B", FOR_CPU, 2): 3800.0,
    }
    requests, for_cpu = table(medians).splitlines()[-2:]
    assert "1.20 | at least 1.7: MISSED (the load shares the cores)" in requests
    assert for_cpu == "| 500 B, requests a CPU second | 4,000 | 3,800 | 1.90 | on two free cores |"
