"""The benchmark's table says what was measured and whether the aims are met."""

from benchmarks.run import HELD_STREAMS, table

NAMES = ["direct", "nginx", "modelplex"]


def _row(measure: str, **figures: float) -> str:
    return table({(measure, name): figure for name, figure in figures.items()}, names=NAMES).splitlines()[-1]


def test_a_ratio_is_nginx_work_for_each_cpu_second() -> None:
    row = _row("CPU µs a request, 500 B", nginx=35.0, modelplex=140.0)
    assert (
        row
        == "| CPU µs a request, 500 B |  | 35.0 | 140 | 0.25 of its work for each CPU second | at least 0.2: met |"
    )


def test_an_aim_that_is_not_reached_is_shouted() -> None:
    assert _row("CPU µs a streamed chunk", nginx=39.0, modelplex=80.0).endswith("at least 0.5: MISSED |")
    assert _row(f"MB at {HELD_STREAMS} held streams", modelplex=101.0).endswith("below 100: MISSED |")


def test_added_latency_is_the_difference_to_a_direct_connection() -> None:
    assert "adds 250 µs; nginx adds 100 µs" in _row(
        "answer after, µs", direct=100.0, nginx=200.0, modelplex=350.0
    )


def test_without_nginx_there_is_no_ratio_and_no_verdict() -> None:
    assert _row("CPU µs a request, 500 B", modelplex=140.0) == "| CPU µs a request, 500 B |  |  | 140 |  |  |"


def test_a_translation_is_held_against_the_pass_of_the_same_form() -> None:
    passing, translated = "CPU µs a streamed chunk", "CPU µs a streamed chunk, translated"
    figures = {(passing, "modelplex"): 20.0, (translated, "modelplex"): 30.0}
    assert table(figures, names=NAMES).splitlines()[-1].endswith("1.50 times the pass | at most 3: met |")
    figures[translated, "modelplex"] = 61.0
    assert table(figures, names=NAMES).splitlines()[-1].endswith("at most 3: MISSED |")
