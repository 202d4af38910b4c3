"""The text of the metrics."""

import threading
from pathlib import Path

from msgspec import structs
from prometheus_client.parser import text_string_to_metric_families

from modelplex.records.metrics import Breaker, Metrics
from modelplex.records.record import AttemptRecord
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


def test_the_older_names_count_the_same_for_one_release() -> None:
    counts = Metrics()
    attempt = AttemptRecord("mine", "grok-5", 0, "ok", 200, otel_name="x_ai")
    counts.record(structs.replace(record(provider="mine", model="grok-5", stream=True), attempts=(attempt,)))
    now = {"gen_ai_provider_name": "x_ai", "provider": "mine", "gen_ai_operation_name": "chat"}
    before = {"gen_ai_provider_name": "mine", "gen_ai_operation_name": "chat"}
    for new, old, labels in (
        ("inference_duration_seconds_sum", "operation_duration_seconds_sum", {}),
        ("inference_duration_seconds_count", "operation_duration_seconds_count", {}),
        ("inference_time_to_first_chunk_seconds_sum", "operation_time_to_first_chunk_seconds_sum", {}),
        ("inference_operation_input_tokens_sum", "token_usage_sum", {"gen_ai_token_type": "input"}),
        ("inference_operation_output_tokens_sum", "token_usage_sum", {"gen_ai_token_type": "output"}),
    ):
        counted = value(counts, f"gen_ai_client_{new}", **now)
        assert counted > 0, new
        assert value(counts, f"gen_ai_client_{old}", **before, **labels) == counted, old


def test_embeddings_and_other_operations_are_no_inference() -> None:
    counts = Metrics()
    counts.record(record(endpoint="embeddings"))
    counts.record(record(endpoint="rerank"))
    text = counts.render().decode()
    assert value(counts, "gen_ai_client_embeddings_duration_seconds_count") == 1
    assert value(counts, "gen_ai_client_embeddings_operation_input_tokens_count") == 1
    assert "gen_ai_client_inference_duration_seconds_count" not in text
    assert (
        value(counts, "gen_ai_client_operation_duration_seconds_count", gen_ai_operation_name="retrieval")
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
            counts.record(record(model=f"m{number % 20}", code=f"c{number % 10}", outcome="error"))

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
