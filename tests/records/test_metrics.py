import threading
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from modelplex.core.events import Usage
from modelplex.records import metrics
from modelplex.records.metrics import Breaker, Metrics, listener_kind
from modelplex.records.record import AttemptRecord, Record, Times


def record(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "id": "req_1",
        "started": 1.0,
        "listener": "tcp:127.0.0.1:11435",
        "client": "127.0.0.1",
        "endpoint": "chat/completions",
        "dialect": "openai_chat",
        "requested_model": "gpt",
        "model": "gpt-4o",
        "provider": "openai",
        "stream": True,
        "status": 200,
        "usage": Usage(fresh=70, cache_read=20, cache_write=10, output=9, reasoning=4),
        "cost": 0.5,
        "times": Times(overhead=0.0004, first_output=0.3, total=2.0),
        "attempts": (AttemptRecord("openai", "gpt-4o", 0, "ok", 200, 2.0),),
        "bytes_in": 1000,
        "bytes_out": 300,
    }
    return Record(**(fields | changes))


def read(told: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of the text as Prometheus reads it: (name, labels) -> value."""
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(told.render().decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, f"{key} is told twice"
            samples[key] = sample.value
    return samples


def value(told: Metrics, name: str, **labels: str) -> float:
    """The sum of the samples with that name that have at least these labels."""
    found = [
        number
        for (sample, its), number in read(told).items()
        if sample == name and frozenset(labels.items()) <= its
    ]
    assert found, f"no {name} with {labels}"
    return sum(found)


def test_an_answered_call_is_counted_under_the_conventions_names() -> None:
    told = Metrics()
    told.started("tcp:127.0.0.1:11435")
    told.record(record())
    gen_ai = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "openai",
        "gen_ai_request_model": "gpt-4o",
    }
    for name, labels, expected in (
        ("gen_ai_client_operation_duration_seconds_sum", {"error_type": ""}, 2.0),
        ("gen_ai_client_operation_duration_seconds_bucket", {"le": "1.28"}, 0),
        ("gen_ai_client_operation_duration_seconds_bucket", {"le": "2.56"}, 1),
        ("gen_ai_client_operation_duration_seconds_bucket", {"le": "+Inf"}, 1),
        ("gen_ai_client_operation_time_to_first_chunk_seconds_count", {}, 1),
        ("gen_ai_client_operation_time_to_first_chunk_seconds_sum", {}, 0.3),
        ("gen_ai_client_token_usage_sum", {"gen_ai_token_type": "input"}, 100),
        ("gen_ai_client_token_usage_sum", {"gen_ai_token_type": "output"}, 9),
        ("gen_ai_client_inference_usage_input_tokens_total", {"gen_ai_token_modality": "unknown"}, 100),
        ("gen_ai_client_inference_usage_output_tokens_total", {}, 9),
        ("gen_ai_client_inference_usage_cache_read_input_tokens_total", {}, 20),
        ("gen_ai_client_inference_usage_cache_write_input_tokens_total", {}, 10),
        ("gen_ai_client_inference_usage_reasoning_output_tokens_total", {}, 4),
    ):
        assert value(told, name, **gen_ai, **labels) == expected, name
    ours = {"provider": "openai", "model": "gpt-4o", "endpoint": "chat/completions"}
    assert value(told, "modelplex_requests_total", **ours, listener="tcp", outcome="ok", status="2xx") == 1
    assert value(told, "modelplex_cost_usd_total", **ours) == 0.5
    assert value(told, "modelplex_unpriced_calls_total", **ours) == 0
    assert value(told, "modelplex_overhead_seconds_sum", **ours) == 0.0004
    assert value(told, "modelplex_request_bytes_total", **ours) == 1000
    assert value(told, "modelplex_response_bytes_total", **ours) == 300
    assert value(told, "modelplex_attempts_total", provider="openai", outcome="ok") == 1


def test_a_failed_call_is_counted_by_blame_code_and_every_attempt() -> None:
    told = Metrics()
    tries = (
        AttemptRecord("a", "m", 0, "rate_limit_exceeded", 429),
        AttemptRecord("a", "m", 1, "upstream_timeout"),
        AttemptRecord("b", "m", 0, "overloaded", 503),
    )
    told.record(
        record(
            outcome="error",
            blame="provider",
            code="overloaded",
            status=503,
            provider="b",
            model="m",
            attempts=tries,
            usage=None,
        )
    )
    assert (
        value(told, "modelplex_errors_total", provider="b", model="m", blame="provider", code="overloaded")
        == 1
    )
    assert value(told, "modelplex_requests_total", outcome="error", status="5xx") == 1
    assert value(told, "gen_ai_client_operation_duration_seconds_count", error_type="overloaded") == 1
    assert value(told, "modelplex_attempts_total", provider="a") == 2
    assert value(told, "modelplex_attempts_total", outcome="overloaded") == 1


def test_names_that_nobody_serves_do_not_become_labels() -> None:
    told = Metrics()
    for number in range(50):
        told.record(
            record(requested_model=f"made-up-{number}", model=f"made-up-{number}", provider="", outcome="error", blame="client",
                   code="model_not_found", status=404, attempts=(), usage=None)
        )  # fmt: skip
    assert b"made-up" not in told.render()
    assert value(told, "modelplex_requests_total", provider="", model="", status="4xx") == 50


def test_series_and_codes_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SERIES_LIMIT", 3)
    monkeypatch.setattr(metrics, "CODES_LIMIT", 2)
    told = Metrics()
    for number in range(20):
        code = f"code{number}"
        told.record(record(model=f"m{number}", outcome="error", blame="provider", code=code, attempts=()))
    assert repr(told) == "<Metrics 20 calls, -20 in flight, 4 series>"
    assert value(told, "modelplex_requests_total", provider="_OTHER", model="_OTHER", endpoint="_OTHER") == 17
    assert value(told, "modelplex_errors_total", code="_OTHER") == 18
    assert value(told, "modelplex_requests_total") == 20


def test_a_call_in_flight_is_seen_until_it_is_over() -> None:
    told = Metrics()
    told.started("unix:/run/m.sock")
    told.started("tcp:[::1]:8080")
    assert value(told, "modelplex_in_flight", listener="unix") == 1
    assert repr(told) == "<Metrics 0 calls, 2 in flight, 0 series>"
    told.record(record(listener="unix:/run/m.sock"))
    assert value(told, "modelplex_in_flight", listener="unix") == 0
    assert value(told, "modelplex_in_flight", listener="tcp") == 1


def test_breakers_and_lost_log_lines_are_told_as_they_stand() -> None:
    state: list[Breaker] = []
    lost: dict[str, int] = {}
    told = Metrics(breakers=lambda: state, lost_lines=lambda: lost, version="1.2.3")
    assert value(told, "modelplex_build_info", version="1.2.3") == 1
    state += [Breaker("a", 0, "closed"), Breaker("a", 1, "half_open"), Breaker("b", 0, "open")]
    lost["full"] = 4
    assert value(told, "modelplex_breaker_state", provider="a", key="0") == 0
    assert value(told, "modelplex_breaker_state", provider="a", key="1") == 1
    assert value(told, "modelplex_breaker_state", provider="b", key="0") == 2
    assert value(told, "modelplex_log_lines_lost_total", reason="full") == 4


def test_tokens_without_a_price_are_counted_as_unpriced_and_not_as_free() -> None:
    told = Metrics()
    told.record(record(cost=None))
    told.record(record(usage=None, cost=None))
    assert value(told, "modelplex_unpriced_calls_total") == 1
    assert value(told, "modelplex_cost_usd_total") == 0


def test_an_answer_that_was_not_streamed_has_no_first_chunk() -> None:
    told = Metrics()
    told.record(record(stream=False))
    assert b"time_to_first_chunk_seconds_count{" not in told.render()


def test_endpoints_of_the_same_operation_are_one_series() -> None:
    told = Metrics()
    told.record(record(endpoint="messages"))
    told.record(record(endpoint="chat/completions"))
    told.record(record(endpoint="images/generations"))
    assert value(told, "gen_ai_client_operation_duration_seconds_count", gen_ai_operation_name="chat") == 2
    assert (
        value(
            told, "gen_ai_client_operation_duration_seconds_count", gen_ai_operation_name="images/generations"
        )
        == 1
    )


def test_odd_characters_in_a_name_do_not_break_the_text() -> None:
    told = Metrics()
    told.record(record(model='a"b\\c\nd é', provider="p"))
    assert value(told, "modelplex_requests_total", model='a"b\\c\nd é') == 1


@pytest.mark.parametrize(
    ("listener", "kind"),
    [
        ("tcp:127.0.0.1:1", "tcp"),
        ("unix:/a", "unix"),
        ("vsock:2:1", "vsock"),
        ("elsewhere", ""),
    ],
)
def test_a_listener_is_told_by_its_kind(listener: str, kind: str) -> None:
    assert listener_kind(listener) == kind


def test_the_text_is_whole_while_calls_are_being_counted() -> None:
    told = Metrics()
    done = threading.Event()

    def count() -> None:
        number = 0
        while not done.is_set():
            number += 1
            told.record(record(model=f"m{number % 50}", code=f"c{number % 30}", outcome="error"))

    thread = threading.Thread(target=count)
    thread.start()
    try:
        for _ in range(5):
            for (name, labels), number in (samples := read(told)).items():
                if name.endswith("_count"):
                    last = (name.removesuffix("_count") + "_bucket", labels | {("le", "+Inf")})
                    assert samples[last] == number
    finally:
        done.set()
        thread.join()


def test_every_metric_is_in_the_reference() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/metrics.md").read_text()
    told = Metrics(breakers=lambda: [Breaker("a", 0, "open")], lost_lines=lambda: {"full": 1})
    told.record(record(outcome="broken", blame="provider", code="x"))
    names = {family.name for family in text_string_to_metric_families(told.render().decode())}
    assert len(names) > 15
    assert {name for name in names if f"`{name}`" not in page and not name.startswith("process_")} == set()
