"""The text of the metrics."""

import threading
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from modelplex.records.metrics import Breaker, Metrics
from tests.records.scraping import read, record, value


def test_an_answer_that_was_not_streamed_has_no_first_chunk() -> None:
    counts = Metrics()
    counts.record(record(stream=False))
    assert b"time_to_first_chunk_seconds_count{" not in counts.render()


def test_endpoints_of_the_same_operation_are_one_series() -> None:
    counts = Metrics()
    counts.record(record(endpoint="messages"))
    counts.record(record(endpoint="chat/completions"))
    counts.record(record(endpoint="images/generations"))
    assert value(counts, "gen_ai_client_operation_duration_seconds_count", gen_ai_operation_name="chat") == 2
    assert (
        value(
            counts,
            "gen_ai_client_operation_duration_seconds_count",
            gen_ai_operation_name="images/generations",
        )
        == 1
    )


def test_odd_characters_in_a_name_do_not_break_the_text() -> None:
    counts = Metrics()
    counts.record(record(model='a"b\\c\nd é', provider="p"))
    assert value(counts, "modelplex_requests_total", model='a"b\\c\nd é') == 1


def test_the_text_is_whole_while_calls_are_being_counted() -> None:
    counts = Metrics()
    done = threading.Event()

    def count() -> None:
        number = 0
        while not done.is_set():
            number += 1
            counts.record(record(model=f"m{number % 50}", code=f"c{number % 30}", outcome="error"))

    thread = threading.Thread(target=count)
    thread.start()
    try:
        for _ in range(5):
            for (name, labels), number in (samples := read(counts)).items():
                if name.endswith("_count"):
                    last = (name.removesuffix("_count") + "_bucket", labels | {("le", "+Inf")})
                    assert samples[last] == number
    finally:
        done.set()
        thread.join()


def test_every_metric_is_in_the_reference() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/metrics.md").read_text()
    counts = Metrics(breakers=lambda: [Breaker("a", 0, "open")], lost_lines=lambda: {"full": 1})
    counts.record(record(outcome="broken", blame="provider", code="x"))
    names = {family.name for family in text_string_to_metric_families(counts.render().decode())}
    assert len(names) > 15
    assert {name for name in names if f"`{name}`" not in page and not name.startswith("process_")} == set()
