"""Calls in flight: states, estimated tokens and rates from samples."""

from __future__ import annotations

from typing import Any

import pytest

from modelplex.dashboard.live import BYTES_PER_TOKEN, SLOW_START_S, STALLED_S, LiveSampler
from modelplex.dashboard.request import LiveCall


def call(**more: Any) -> LiveCall:
    facts: dict[str, Any] = {
        "id": "mpx-1",
        "agent": "a",
        "listener": "unix:/s",
        "model": "m",
        "provider": "p",
        "provider_model": "m",
        "endpoint": "chat",
        "stream": True,
        "seconds": 1.0,
        "first_output": 0.5,
        "sent": 0,
        "attempts": 1,
        "bytes_in": 10,
    }
    return LiveCall(**(facts | more))


def test_tokens_and_their_rate_come_from_bytes() -> None:
    sampler = LiveSampler(lambda _: 100.0)
    (first,) = sampler.sample([call(sent=1000)], now=1.0)
    assert (first.tokens, first.rate, first.state) == (10, None, "streaming")
    (second,) = sampler.sample([call(sent=3000)], now=2.0)
    assert (second.tokens, second.rate) == (30, 20.0)
    (third,) = sampler.sample([call(sent=3000)], now=4.0)
    assert third.rate == pytest.approx(20 / 3, abs=0.1)


def test_without_a_call_that_ended_a_usual_ratio_is_taken() -> None:
    (row,) = LiveSampler(lambda _: None).sample([call(sent=int(BYTES_PER_TOKEN * 7))], now=1.0)
    assert row.tokens == 7


def test_before_the_first_output_a_call_waits_and_later_is_stalled() -> None:
    sampler = LiveSampler(lambda _: None)
    (row,) = sampler.sample([call(first_output=None, seconds=2.0)], now=1.0)
    assert (row.state, row.tokens, row.rate, row.quiet) == ("waiting", None, None, 2.0)
    (row,) = sampler.sample([call(first_output=None, seconds=SLOW_START_S)], now=2.0)
    assert row.state == "stalled"


def test_a_stream_without_output_is_stalled_whatever_keep_alives_it_sends() -> None:
    sampler = LiveSampler(lambda _: None)
    sampler.sample([call(sent=500)], now=0.0)
    sampler.sample([call(sent=5000)], now=1.0)
    for second in range(2, int(STALLED_S) + 1):
        (row,) = sampler.sample([call(sent=5000 + 20 * second)], now=float(second))
        assert row.state == "streaming"
    (row,) = sampler.sample([call(sent=5200)], now=1.0 + STALLED_S)
    assert (row.state, row.quiet) == ("stalled", STALLED_S)
    (row,) = sampler.sample([call(sent=9000)], now=2.0 + STALLED_S)
    assert row.state == "streaming"


def test_two_pages_that_look_at_once_share_a_sample() -> None:
    sampler = LiveSampler(lambda _: 1.0)
    sampler.sample([call(sent=0)], now=1.0)
    sampler.sample([call(sent=100)], now=2.0)
    (row,) = sampler.sample([call(sent=100)], now=2.0)
    assert row.rate == 100.0


def test_the_longest_running_is_first_and_what_ended_is_forgotten() -> None:
    sampler = LiveSampler(lambda _: None)
    rows = sampler.sample([call(id="x", seconds=1.0), call(id="y", seconds=9.0)], now=0.0)
    assert [row.id for row in rows] == ["y", "x"]
    assert sampler.sample([], now=1.0) == []
    (row,) = sampler.sample([call(id="x", sent=100)], now=2.0)
    assert row.rate is None
