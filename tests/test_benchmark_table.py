"""The benchmark's table says what was measured and whether the aims are met."""

import json

import pytest

from benchmarks import bodies
from benchmarks.run import OPEN, SEALED, table

NAMES = ["direct", "nginx", SEALED, OPEN]


def _row(measure: str, **figures: float) -> str:
    columns = {"opened": OPEN, "sealed": SEALED}
    medians = {(measure, columns.get(name, name)): figure for name, figure in figures.items()}
    return table(medians, names=NAMES).splitlines()[-1]


def test_a_ratio_is_nginx_work_for_each_cpu_second_open_and_sealed() -> None:
    row = _row("CPU µs a request, 500 B", nginx=35.0, opened=70.0, sealed=100.0)
    assert (
        row
        == "| CPU µs a request, 500 B |  | 35.0 | 100 | 70.0 | 0.50, sealed 0.35 | at least 0.40, sealed 0.33: met |"
    )


@pytest.mark.parametrize(("opened", "sealed"), [(90.0, 100.0), (70.0, 110.0)])
def test_an_aim_that_either_misses_is_shouted(opened: float, sealed: float) -> None:
    assert _row("CPU µs a request, 500 B", nginx=35.0, opened=opened, sealed=sealed).endswith("MISSED |")


def test_a_limit_holds_for_every_column_of_the_gateway() -> None:
    held = "KB of a held stream, of 1,000"
    assert _row(held, nginx=99.0, opened=20.0, sealed=26.0).endswith("below 27: met |")
    assert _row(held, opened=20.0, sealed=28.0).endswith("below 27: MISSED |")
    assert _row("MB idle", sealed=41.0).endswith("below 40: MISSED |")


def test_a_size_without_an_aim_has_its_ratio_alone() -> None:
    row = _row("CPU µs a request, 20 MB", nginx=10.0, opened=40.0, sealed=50.0)
    assert row.endswith("| 0.25, sealed 0.20 |  |")


def test_added_latency_is_the_difference_to_a_direct_connection() -> None:
    measure = "answer after, µs (median at 200/s)"
    assert "adds 250 µs; nginx adds 100 µs" in _row(measure, direct=100.0, nginx=200.0, opened=350.0)


def test_a_99th_percentile_is_held_against_nginx() -> None:
    measure = "99th percentile, µs, at 2,000/s"
    assert _row(measure, nginx=500.0, opened=1000.0).endswith("| 2.0 times nginx's | at most 2: met |")
    assert _row(measure, nginx=500.0, opened=1001.0).endswith("MISSED |")


def test_without_nginx_there_is_no_ratio_and_no_verdict() -> None:
    assert _row("CPU µs a request, 500 B", opened=140.0).endswith("| 140 |  |  |")


def test_a_translation_is_held_against_the_pass_of_the_same_dialect() -> None:
    passing, translated = "CPU µs a streamed chunk", "CPU µs a streamed chunk, translated"
    figures = {(passing, OPEN): 20.0, (translated, OPEN): 30.0}
    assert table(figures, names=NAMES).splitlines()[-1].endswith("1.50 times the pass | at most 2.5: met |")
    figures[translated, OPEN] = 51.0
    assert table(figures, names=NAMES).splitlines()[-1].endswith("at most 2.5: MISSED |")


@pytest.mark.parametrize("size", bodies.PLAIN.values())
def test_a_body_has_its_size_and_no_white_space(size: int) -> None:
    body = bodies.body(size)
    assert abs(len(body) - size) <= 0.02 * size + 50
    assert body == json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=False).encode()
