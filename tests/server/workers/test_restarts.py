"""When a worker is started again."""

from __future__ import annotations

from modelplex.server.workers.restarts import MAX_DELAY, STABLE_SECONDS, Restarts


def test_the_first_restart_is_at_once_and_a_crash_loop_backs_off() -> None:
    restarts = Restarts()
    assert [restarts.ended(lived=1.0) for _ in range(9)] == [0, 0.5, 1, 2, 4, 8, 16, MAX_DELAY, MAX_DELAY]
    assert restarts.ended(lived=STABLE_SECONDS) == 0
    assert restarts.ended(lived=0.0) == 0
    assert restarts.ended(lived=0.0) == 0.5


def test_no_number_of_crashes_is_too_many() -> None:
    restarts = Restarts()
    assert {restarts.ended(lived=0.0) for _ in range(5000)} == {0, 0.5, 1, 2, 4, 8, 16, MAX_DELAY}
