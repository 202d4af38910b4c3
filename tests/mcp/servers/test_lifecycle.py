import pytest

from modelplex.mcp.servers import lifecycle
from modelplex.mcp.servers.lifecycle import Life, StartFailed


def life_after(*events: lifecycle.Event, at: float = 0.0, life: Life | None = None) -> Life:
    life = life or Life()
    for event in events:
        life = lifecycle.next(life, event, at)
    return life


def test_a_stored_catalog_a_start_and_a_stop() -> None:
    assert life_after("cataloged").state == "cataloged"
    assert life_after("cataloged", "needed").state == "starting"
    assert life_after("needed", "ready").state == "ready"
    assert life_after("needed", "ready", "stopped").state == "idle_stopped"
    assert life_after("needed", "ready", "stopped", "needed").state == "starting"


def test_each_failure_doubles_the_wait_up_to_the_limit() -> None:
    life, now, waits = Life(), 0.0, list[float]()
    for _ in range(9):
        now += 100  # so far apart that there is no crash loop
        life = life_after("needed", StartFailed("x"), life=Life(life.state, life.failures, 0.0), at=now)
        waits.append(life.until - now)
    assert waits[:3] == [0.5, 1.0, 2.0]
    assert max(waits) <= lifecycle.MAX_BACKOFF
    assert life_after("needed", StartFailed("x", random=1.0)).until == 0.5 * (1 - lifecycle.JITTER)


def test_nothing_starts_before_the_wait_is_over() -> None:
    life = life_after("needed", StartFailed("broken"))
    assert (life.state, life.error) == ("backoff", "broken")
    assert life.wait(0.2) == pytest.approx(0.3)
    assert lifecycle.next(life, "needed", 0.4).state == "backoff"
    assert lifecycle.next(life, "needed", 0.6).state == "starting"


def test_five_failures_are_a_crash_loop_that_ends_by_time() -> None:
    life = Life()
    for n in range(lifecycle.CRASHES):
        life = life_after("needed", StartFailed("x"), life=life, at=n * 40.0)
    assert life.state == "crash_loop"
    assert lifecycle.next(life, "needed", 200.0).state == "crash_loop"
    rested = lifecycle.next(life, "needed", life.until)
    assert (rested.state, rested.failures) == ("starting", ())


def test_failures_of_long_ago_do_not_count() -> None:
    life = Life()
    for n in range(12):
        life = life_after("needed", "ready", StartFailed("x"), life=life, at=n * lifecycle.CRASH_WINDOW / 3)
        assert life.state == "backoff"


def test_a_late_event_of_a_stopped_instance_changes_nothing() -> None:
    stopped = life_after("needed", "ready", "stopped")
    assert life_after(StartFailed("x"), "ready", life=stopped) == stopped
