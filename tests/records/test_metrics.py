"""Counting of calls for Prometheus."""

import pytest

from modelplex.records import metrics
from modelplex.records.metrics import Breaker, Metrics, listener_kind
from modelplex.records.record import AttemptRecord
from tests.records.scraping import record, value


def test_an_answered_call_is_counted_under_the_conventions_names() -> None:
    counts = Metrics()
    counts.started("tcp:127.0.0.1:11435")
    counts.record(record())
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
        assert value(counts, name, **gen_ai, **labels) == expected, name
    ours = {"provider": "openai", "model": "gpt-4o", "endpoint": "chat/completions"}
    assert value(counts, "modelplex_requests_total", **ours, listener="tcp", outcome="ok", status="2xx") == 1
    assert value(counts, "modelplex_cost_usd_total", **ours) == 0.5
    assert value(counts, "modelplex_unpriced_calls_total", **ours) == 0
    assert value(counts, "modelplex_overhead_seconds_sum", **ours) == 0.0004
    assert value(counts, "modelplex_request_bytes_total", **ours) == 1000
    assert value(counts, "modelplex_response_bytes_total", **ours) == 300
    assert value(counts, "modelplex_attempts_total", provider="openai", outcome="ok") == 1


def test_a_failed_call_is_counted_by_blame_code_and_every_attempt() -> None:
    counts = Metrics()
    tries = (
        AttemptRecord("a", "m", 0, "rate_limit_exceeded", 429),
        AttemptRecord("a", "m", 1, "upstream_timeout"),
        AttemptRecord("b", "m", 0, "overloaded", 503),
    )
    counts.record(
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
        value(counts, "modelplex_errors_total", provider="b", model="m", blame="provider", code="overloaded")
        == 1
    )
    assert value(counts, "modelplex_requests_total", outcome="error", status="5xx") == 1
    assert value(counts, "gen_ai_client_operation_duration_seconds_count", error_type="overloaded") == 1
    assert value(counts, "modelplex_attempts_total", provider="a") == 2
    assert value(counts, "modelplex_attempts_total", outcome="overloaded") == 1


def test_an_estimate_after_a_failed_attempt_is_not_counted_as_another_call_was() -> None:
    counts = Metrics()
    failed = (AttemptRecord("openai", "gpt-4o", 0, "unsupported", 404),)
    for attempts in (None, failed, failed, None):
        counts.record(record() if attempts is None else record(attempts=attempts))
    for outcome in ("ok", "unsupported"):
        assert value(counts, "modelplex_attempts_total", provider="openai", outcome=outcome) == 2
    assert value(counts, "modelplex_requests_total", outcome="ok") == 4


def test_names_that_no_provider_serves_do_not_become_labels() -> None:
    counts = Metrics()
    for number in range(50):
        counts.record(
            record(requested_model=f"made-up-{number}", model=f"made-up-{number}", provider="", outcome="error", blame="client",
                   code="model_not_found", status=404, attempts=(), usage=None)
        )  # fmt: skip
    assert b"made-up" not in counts.render()
    assert value(counts, "modelplex_requests_total", provider="", model="", status="4xx") == 50


def test_series_and_codes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SERIES_LIMIT", 3)
    monkeypatch.setattr(metrics, "CODES_LIMIT", 2)
    counts = Metrics()
    for number in range(20):
        code = f"code{number}"
        counts.record(record(model=f"m{number}", outcome="error", blame="provider", code=code, attempts=()))
    assert repr(counts) == "<Metrics 20 calls, -20 in flight, 4 series>"
    assert (
        value(counts, "modelplex_requests_total", provider="_OTHER", model="_OTHER", endpoint="_OTHER") == 17
    )
    assert value(counts, "modelplex_errors_total", code="_OTHER") == 18
    assert value(counts, "modelplex_requests_total") == 20


def test_a_call_is_in_flight_until_its_record() -> None:
    counts = Metrics()
    counts.started("unix:/run/m.sock")
    counts.started("tcp:[::1]:8080")
    assert value(counts, "modelplex_in_flight", listener="unix") == 1
    assert repr(counts) == "<Metrics 0 calls, 2 in flight, 0 series>"
    counts.record(record(listener="unix:/run/m.sock"))
    assert value(counts, "modelplex_in_flight", listener="unix") == 0
    assert value(counts, "modelplex_in_flight", listener="tcp") == 1


def test_breakers_and_lost_log_lines_are_read_at_each_rendering() -> None:
    state: list[Breaker] = []
    lost: dict[str, int] = {}
    counts = Metrics(breakers=lambda: state, lost_lines=lambda: lost, version="1.2.3")
    assert value(counts, "modelplex_build_info", version="1.2.3") == 1
    state += [Breaker("a", 0, "closed"), Breaker("a", 1, "half_open"), Breaker("b", 0, "open")]
    lost["full"] = 4
    assert value(counts, "modelplex_breaker_state", provider="a", key="0") == 0
    assert value(counts, "modelplex_breaker_state", provider="a", key="1") == 1
    assert value(counts, "modelplex_breaker_state", provider="b", key="0") == 2
    assert value(counts, "modelplex_log_lines_lost_total", reason="full") == 4


def test_tokens_without_a_price_are_counted_as_unpriced_and_not_as_free() -> None:
    counts = Metrics()
    counts.record(record(cost=None))
    counts.record(record(usage=None, cost=None))
    assert value(counts, "modelplex_unpriced_calls_total") == 1
    assert value(counts, "modelplex_cost_usd_total") == 0


@pytest.mark.parametrize(
    ("listener", "kind"),
    [
        ("tcp:127.0.0.1:1", "tcp"),
        ("unix:/a", "unix"),
        ("vsock:2:1", "vsock"),
        ("elsewhere", ""),
    ],
)
def test_a_listener_is_reduced_to_its_kind(listener: str, kind: str) -> None:
    assert listener_kind(listener) == kind
