"""Deadlines of an incoming body and of an ending connection."""

from __future__ import annotations

import pytest

from modelplex.server.connection_limits import (
    FLUSH_SECONDS,
    LINGER_BYTES,
    LINGER_SECONDS,
    BodyPace,
    ConnectionLimits,
    Lingering,
)


@pytest.mark.parametrize(
    ("received", "now", "deadline"),
    [
        (0, 100.0, 110.0),
        (0, 105.0, 110.0),  # nothing came since the start
        (500, 105.0, 115.0),  # at the rate of 100 bytes per second 500 bytes allow 5 seconds more
        (5000, 105.0, 115.0),  # no body may be silent for longer than body_timeout
        (5000, 200.0, 160.0),  # too slow on average: late already
    ],
)
def test_a_body_is_late_when_it_is_silent_or_too_slow(received: int, now: float, deadline: float) -> None:
    pace = BodyPace(ConnectionLimits(body_timeout=10, min_body_rate=100))
    pace.restart(100.0)
    pace.size += received
    assert pace.deadline(now) == deadline


def test_without_a_minimal_rate_only_silence_is_late() -> None:
    pace = BodyPace(ConnectionLimits(body_timeout=10, min_body_rate=0))
    pace.restart(0.0)
    assert pace.deadline(1000.0) == 1010.0


def test_a_restart_forgets_what_came_before() -> None:
    pace = BodyPace(ConnectionLimits(body_timeout=10, min_body_rate=100))
    pace.restart(0.0)
    pace.size = 10_000
    pace.restart(50.0)
    assert pace.deadline(59.0) == 60.0


def test_a_client_that_reads_the_response_gets_more_time() -> None:
    lingering = Lingering()
    assert lingering.restart(unsent=100, now=1.0) == 1.0 + FLUSH_SECONDS
    assert lingering.extend(unsent=60, now=2.0) == 2.0 + FLUSH_SECONDS
    assert lingering.extend(unsent=0, now=3.0) == 3.0 + LINGER_SECONDS
    assert lingering.extend(unsent=0, now=4.0) is None


def test_a_client_that_reads_nothing_gets_no_more_time() -> None:
    lingering = Lingering()
    assert lingering.restart(unsent=0, now=1.0) == 1.0 + LINGER_SECONDS
    lingering.restart(unsent=100, now=1.0)
    assert lingering.extend(unsent=100, now=2.0) is None


def test_discarded_input_is_bounded_until_the_next_restart() -> None:
    lingering = Lingering()
    lingering.discard(LINGER_BYTES)
    assert not lingering.is_too_much
    lingering.discard(1)
    assert lingering.is_too_much
    lingering.restart(unsent=0, now=1.0)
    assert not lingering.is_too_much
