"""The state machine of one instance: states, events, and when it may start again.

PURE. Time and random numbers are arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import msgspec

State = Literal[
    "configured",  # known, no catalog yet
    "cataloged",  # a catalog is known, nothing runs
    "starting",  # starting, once for all who wait
    "ready",  # its era is known and its lists are loaded
    "idle_stopped",  # stopped because nobody called it
    "backoff",  # failed; started again on demand after `until`
    "crash_loop",  # failed too often; calls fail at once until `until`
]

BACKOFF: Final = 0.5
"""Seconds before the first restart; each failure doubles it."""
MAX_BACKOFF: Final = 30.0
JITTER: Final = 0.25
"""The random share of a wait: servers that failed together do not start together."""
CRASHES: Final = 5
CRASH_WINDOW: Final = 300.0
"""So many failures within so many seconds are a crash loop."""
CRASH_REST: Final = 600.0
"""Seconds after which a crash loop is tried again."""


class Life(msgspec.Struct, frozen=True):
    """`failures` are the times of failures within the window, `until` is the earliest next start,
    `error` the reason of the last failure.
    """

    state: State = "configured"
    failures: tuple[float, ...] = ()
    until: float = 0.0
    error: str | None = None

    def wait(self, now: float) -> float:
        """Seconds until the next start; 0 if it may start now."""
        return max(0.0, self.until - now) if self.state in {"backoff", "crash_loop"} else 0.0


class StartFailed(msgspec.Struct, frozen=True):
    """The start failed, or the process exited or was lost. `random` is for the jitter, 0 to 1."""

    error: str
    random: float = 0.0


class SignInMissing(msgspec.Struct, frozen=True):
    """The start needs a person to sign in. This is no crash: the next call tries again, since the
    person may have.
    """

    error: str


Event: TypeAlias = (
    Literal[
        "cataloged",  # the disk had a catalog
        "needed",  # a caller needs the instance
        "ready",  # the start has finished
        "stopped",  # because nobody called it
    ]
    | StartFailed
    | SignInMissing
)


# All transitions have the same signature.
def _start(life: Life, _event: Event, now: float) -> Life:
    if life.wait(now):
        return life
    # After the pause of a crash loop, the next failure counts as the first.
    failures = () if life.state == "crash_loop" else _recent(life.failures, now)
    return Life("starting", failures, 0.0, life.error)


def _fail(life: Life, event: Event, now: float) -> Life:
    assert isinstance(event, StartFailed)
    failures = (*_recent(life.failures, now), now)
    if len(failures) >= CRASHES:
        return Life("crash_loop", failures, now + CRASH_REST, event.error)
    wait = min(MAX_BACKOFF, BACKOFF * 2.0 ** (len(failures) - 1)) * (1.0 - JITTER * event.random)
    return Life("backoff", failures, now + wait, event.error)


def _be_ready(life: Life, _event: Event, now: float) -> Life:
    """A reason that was no failure, or one of long ago, is over."""
    failures = _recent(life.failures, now)
    return Life("ready", failures, 0.0, life.error if failures else None)


def _wait_for_sign_in(life: Life, event: Event, now: float) -> Life:
    assert isinstance(event, SignInMissing)
    return Life("idle_stopped", _recent(life.failures, now), 0.0, event.error)


def _recent(failures: tuple[float, ...], now: float) -> tuple[float, ...]:
    return tuple(at for at in failures if now - at < CRASH_WINDOW)


def _into(state: State) -> Callable[[Life, Event, float], Life]:
    return lambda life, _, now: Life(state, _recent(life.failures, now), 0.0, life.error)


_STOPPED: Final = ("configured", "cataloged", "idle_stopped", "backoff", "crash_loop")
_RUNNING: Final = ("starting", "ready")

_TABLE: Final[dict[tuple[State, str], Callable[[Life, Event, float], Life]]] = {
    ("configured", "cataloged"): _into("cataloged"),
    **{(state, "needed"): _start for state in _STOPPED},
    ("starting", "ready"): _be_ready,
    **{(state, "failed"): _fail for state in _RUNNING},
    **{(state, "signed_out"): _wait_for_sign_in for state in _RUNNING},
    **{(state, "stopped"): _into("idle_stopped") for state in _RUNNING},
}


def next(life: Life, event: Event, now: float) -> Life:  # noqa: A001 - the builtin is not used here
    """The life after this event at `now`, in seconds. An event that is not in the table for a state
    changes nothing.
    """
    match event:
        case StartFailed():
            word = "failed"
        case SignInMissing():
            word = "signed_out"
        case _:
            word = event
    change = _TABLE.get((life.state, word))
    return life if change is None else change(life, event, now)
