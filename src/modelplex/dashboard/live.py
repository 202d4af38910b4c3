"""The calls in flight, sampled while somebody looks. PURE: times are arguments.

The data path counts bytes and no tokens. Tokens are estimated from bytes, by the ratio of the calls
of the same provider, model and endpoint that have ended; rates are differences of two samples.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from modelplex.dashboard.request import LiveCall

BYTES_PER_TOKEN = 160.0
"""Of a streamed response, until a call of this model has ended: one event with a token or two."""
QUIET_BYTES = 64
"""What a keep-alive adds to a stream at most. Fewer bytes between two samples are no output."""
STALLED_S = 8.0
"""Seconds without output after which a stream counts as stalled: models pause for a few."""
SLOW_START_S = 30.0
"""Seconds without a first output, the same. Reasoning models take long before the first byte."""
WINDOW = 5
"""Samples over which a rate is measured, one a second."""


class LiveRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows of one call. `tokens` and `rate` are estimates; `quiet` is seconds since
    the last output.
    """

    id: str
    agent: str
    listener: str
    model: str
    provider: str
    provider_model: str
    endpoint: str
    stream: bool
    seconds: float
    state: str
    tokens: int | None
    rate: float | None
    quiet: float
    sent: int
    attempts: int
    bytes_in: int


class _Seen:
    """Samples of one call: (time, bytes)."""

    __slots__ = ("changed", "samples")

    def __init__(self, now: float, sent: int) -> None:
        self.samples: deque[tuple[float, int]] = deque([(now, sent)], maxlen=WINDOW)
        self.changed = now

    def add(self, now: float, sent: int) -> None:
        if sent - self.samples[-1][1] > QUIET_BYTES:
            self.changed = now
        self.samples.append((now, sent))

    def bytes_per_second(self) -> float | None:
        (began, first), (ended, last) = self.samples[0], self.samples[-1]
        return (last - first) / (ended - began) if ended > began else None


class LiveSampler:
    """`ratio` gives the bytes of a response per output token, None where no call has ended yet."""

    def __init__(self, ratio: Callable[[LiveCall], float | None]) -> None:
        self._ratio = ratio
        self._seen: dict[str, _Seen] = {}

    def sample(self, calls: Iterable[LiveCall], *, now: float) -> list[LiveRow]:
        """The rows, the longest running first. Forgets the calls that have ended."""
        rows: list[LiveRow] = []
        seen: dict[str, _Seen] = {}
        for call in calls:
            one = self._seen.get(call.id)
            if one is None:
                one = _Seen(now, call.sent)
            elif now > one.samples[-1][0]:
                one.add(now, call.sent)
            seen[call.id] = one
            rows.append(self._row(call, one, now=now))
        self._seen = seen
        rows.sort(key=lambda row: row.seconds, reverse=True)
        return rows

    def _row(self, call: LiveCall, seen: _Seen, *, now: float) -> LiveRow:
        per_token = self._ratio(call) or BYTES_PER_TOKEN
        waiting = call.first_output is None
        quiet = call.seconds if waiting else now - seen.changed
        rate = seen.bytes_per_second()
        stalled = quiet >= (SLOW_START_S if waiting else STALLED_S)
        return LiveRow(
            id=call.id,
            agent=call.agent,
            listener=call.listener,
            model=call.model,
            provider=call.provider,
            provider_model=call.provider_model,
            endpoint=call.endpoint,
            stream=call.stream,
            seconds=round(call.seconds, 1),
            state="stalled" if stalled else "waiting" if waiting else "streaming",
            tokens=None if waiting else round(call.sent / per_token),
            rate=None if waiting or rate is None else round(rate / per_token, 1),
            quiet=round(quiet, 1),
            sent=call.sent,
            attempts=call.attempts,
            bytes_in=call.bytes_in,
        )
