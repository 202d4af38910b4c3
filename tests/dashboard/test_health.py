"""Figures from the tables of counts."""

from __future__ import annotations

import pytest

from modelplex.core.events import Usage
from modelplex.dashboard.health import bytes_per_token, errors, merged, providers, quantile
from modelplex.records.metrics import Histogram, Metrics
from modelplex.records.record import AttemptRecord, Record, Times


def record(
    seconds: float, *, provider: str = "p", code: str | None = None, cost: float | None = 0.5
) -> Record:
    usage = Usage(fresh=100, output=10)
    return Record(
        id="i",
        started=0.0,
        listener="tcp:x",
        client="",
        endpoint="chat",
        dialect="openai_chat",
        requested_model="m",
        model="m",
        provider=provider,
        stream=True,
        status=200 if code is None else 502,
        outcome="ok" if code is None else "error",
        blame=None if code is None else "provider",
        code=code,
        usage=usage,
        cost=cost,
        times=Times(first_output=seconds / 2, total=seconds),
        attempts=(AttemptRecord(provider, "m", 0, code or "ok"),),
        bytes_out=2000,
    )


def counted(*records: Record) -> Metrics:
    metrics = Metrics()
    for each in records:
        metrics.started(each.listener)
        metrics.record(each)
    return metrics


def test_a_quantile_is_interpolated_within_its_bucket() -> None:
    assert quantile((1.0, 2.0), [0, 0, 0], 0.5) is None
    assert quantile((1.0, 2.0), [10, 0, 0], 0.5) == 0.5
    assert quantile((1.0, 2.0), [0, 10, 0], 0.5) == 1.5
    assert quantile((1.0, 2.0), [5, 5, 0], 0.95) == pytest.approx(1.9)
    assert quantile((1.0, 2.0), [0, 0, 3], 0.5) == 2.0


def test_histograms_are_added() -> None:
    one, two = Histogram((1.0, 2.0)), Histogram((1.0, 2.0))
    one.add(0.5)
    two.add(1.5)
    assert merged([one, two]) == ((1.0, 2.0), [1, 1, 0])
    assert merged([]) == ((), [])


def test_providers_have_calls_errors_times_and_cost() -> None:
    metrics = counted(
        *(record(1.0) for _ in range(9)),
        record(1.0, code="overloaded", cost=None),
        record(0.1, provider="q"),
    )
    first, second = providers(metrics)
    assert (first.provider, first.calls, first.errors) == ("p", 10, 1)
    assert (first.tokens_in, first.tokens_out, first.unpriced) == (1000, 100, 1)
    assert first.cost == pytest.approx(4.5)
    p50, p95 = first.total
    assert p50 is not None
    assert p95 is not None
    assert 0.64 <= p50 < p95 <= 1.28
    assert None not in first.first
    assert (second.provider, second.calls) == ("q", 1)


def test_errors_are_counted_by_blame_code_and_provider() -> None:
    metrics = counted(record(1, code="a"), record(1, code="b"), record(1, code="b"))
    assert [(each.blame, each.code, each.provider, each.count) for each in errors(metrics)] == [
        ("provider", "b", "p", 2),
        ("provider", "a", "p", 1),
    ]


def test_bytes_of_a_token_are_those_of_the_calls_that_ended() -> None:
    metrics = counted(record(1.0), record(1.0))
    assert bytes_per_token(metrics, "p", "m", "chat") == 200.0
    assert bytes_per_token(metrics, "p", "other", "chat") is None
