"""Asks the engine before a request, tells it afterwards, and goes on where it does not answer.

All that is to be told goes in one stream of numbered messages, each after the reply of the last
one: so an end is counted once, however often a connection breaks. Requests that wait meanwhile
share the next message. Times are those of a monotonic clock, which only measures; the engine's
clock decides. Imports no engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, Protocol

import msgspec

from modelplex.limits.agent_usage import NOTHING, AgentUsage
from modelplex.limits.shared.advance import Advance
from modelplex.limits.shared.messages import (
    NANO,
    SharedAccount,
    SharedEnd,
    SharedMessage,
    SharedReply,
    SharedTotals,
    rows,
    totals_of,
)
from modelplex.limits.shared.problems import EngineLost

MOST: Final = 500
"""Requests, ends and accounts in a message: the engine does nothing else meanwhile, some ms."""
GATHER_S: Final = 0.01
"""Seconds for which an end waits for others, or for a request that takes it along."""
RETRY_S: Final = 0.5
"""Seconds between two attempts to reach an engine that is away."""
RENEWALS: Final = 3
"""Messages in the time of a lease, of a gateway without requests."""
OnLoss = Literal["refuse", "open"]
OUTCOMES: Final = ("reserved", "refused", "on_lease", "refused_without", "open")
"""What became of requests; the last three while the engine was away."""


class SharedLease(msgspec.Struct, eq=False):
    """One request that is counted at the engine, from its reservation to its end."""

    id: str
    names: tuple[str, ...]
    has_rate: bool = False
    ended: bool = False


class SharedRefusal(msgspec.Struct, frozen=True):
    """Why the engine refused: "budget", "reserved", "concurrent" or "rate", the account, and the
    numbers for the sentence. "away": it did not answer, and the config says refuse. "open": it did
    not, and the config says that the limits of this gateway alone decide.
    """

    why: str
    name: str = ""
    numbers: tuple[str, ...] = ()


class LimitsEngine(Protocol):
    """`tell` raises EngineLost."""

    place: str

    async def tell(self, message: SharedMessage) -> SharedReply: ...
    async def close(self) -> None: ...


class _Waiting(msgspec.Struct, eq=False):
    id: str
    accounts: tuple[SharedAccount, ...]
    answer: asyncio.Future[SharedLease | SharedRefusal]


class SharedLimits:
    """`lease` is in seconds. `on_totals` gets each account that a reply tells about, `on_change` a
    reason when the engine is lost and None when it is found.
    """

    def __init__(
        self,
        engine: LimitsEngine,
        *,
        node: str,
        lease: float,
        on_loss: OnLoss,
        clock: Callable[[], float],
        on_totals: Callable[[str, SharedTotals], None],
        on_change: Callable[[str | None], None],
    ) -> None:
        self.node = node
        self.on_loss: OnLoss = on_loss
        self.counts: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
        self.losses = 0
        self.nodes = 0
        self.watched: Callable[[], Iterable[str]] = tuple
        """Accounts of which to be told at each renewal."""
        self._engine = engine
        self._lease_s = lease
        self._clock = clock
        self._on_totals = on_totals
        self._on_change = on_change
        self._away: str | None = "it was not asked yet"
        self._reported = False
        self._registered = self._closing = False
        self._leased_until = 0.0
        self._offset: float | None = None
        self._seq = self._ends_seq = 0
        self._unacknowledged: tuple[SharedEnd, ...] = ()
        self._ended: list[SharedEnd] = []
        self._running: dict[str, SharedLease] = {}
        self._waiting: list[_Waiting] = []
        self._advance = Advance()
        self._seen: dict[str, SharedTotals] = {}
        self._to_show: list[str] = []
        self._to_read: list[str] = []
        self._work = asyncio.Event()
        self._renew = True
        self._gathering: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<SharedLimits {self.node} {'connected' if self._away is None else 'away'}, {len(self._running)} running>"

    @property
    def is_connected(self) -> bool:
        return self._away is None

    def wall(self) -> float | None:
        """Unix seconds by the engine's clock; None before it told."""
        return None if self._offset is None else self._clock() + self._offset

    async def open(self) -> None:
        """Register at the engine. One that is away is reported, and asked until it answers."""
        await self._register()
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._ended_early)

    async def close(self) -> None:
        """Tell what has ended, and that this gateway ends."""
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._gathering is not None:
            self._gathering.cancel()
        self._answer_without_engine()
        try:
            while self._registered and (self._unacknowledged or self._ended):
                await self._tell(self._message())
            if self._registered:
                await self._tell(self._message(leave=True))
        except EngineLost as error:
            if self._unacknowledged or self._ended:
                self._on_change(
                    f"what {len(self._unacknowledged) + len(self._ended)} requests used is lost: {error}"
                )
        await self._engine.close()

    # For requests.

    async def reserve(self, id: str, accounts: tuple[SharedAccount, ...]) -> SharedLease | SharedRefusal:
        """Count a request of the first account, an agent, and of the others, its teams."""
        self._advance.asked(accounts)
        if self._away is not None:
            return self._without_engine(id, accounts)
        waiting = _Waiting(id, accounts, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._work.set()
        return await waiting.answer

    def lease(self, id: str, accounts: tuple[SharedAccount, ...]) -> SharedLease:
        """Of a request that was admitted without the engine, which is told when it is found."""
        names = tuple(each.name for each in accounts)
        lease = self._running[id] = SharedLease(id, names, accounts[0].rate_tokens >= 0)
        return lease

    def end(self, lease: SharedLease, *, requests: int = 0, tokens: int = 0, usd: float = 0.0) -> None:
        """The request has ended, or counts nowhere (0 requests). Idempotent."""
        if lease.ended:
            return
        lease.ended = True
        self._running.pop(lease.id, None)
        end = SharedEnd(lease.id, lease.names, requests, tokens, round(usd * NANO), lease.has_rate)
        self._ended.append(end)
        if self._gathering is None and self._registered:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_S, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        self._work.set()

    def spent(self, name: str, per: str) -> AgentUsage:
        """What all gateways used for this account, as it was last told."""
        totals = self._seen.get(name)
        return NOTHING if totals is None else totals.spent(per)

    def status(self) -> dict[str, object]:
        """For `/_internal/status`."""
        return {
            "engine": self._engine.place,
            "state": "connected" if self._away is None else "away",
            "reason": self._away,
            "on_loss": self.on_loss,
            "node": self.node,
            "nodes": self.nodes,
            "running": len(self._running),
            "waiting": len(self._waiting),
            "not_told": len(self._ended) + len(self._unacknowledged),
            "losses": self.losses,
            "requests": dict(self.counts),
        }

    # Without the engine.

    def _without_engine(self, id: str, accounts: tuple[SharedAccount, ...]) -> SharedLease | SharedRefusal:
        if self._clock() < self._leased_until and self._advance.take(accounts[0].name):
            self.counts["on_lease"] += 1
            return self.lease(id, accounts)
        if self.on_loss == "open":
            self.counts["open"] += 1
            return SharedRefusal("open")
        self.counts["refused_without"] += 1
        return SharedRefusal("away")

    def _answer_without_engine(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.answer.done():
                each.answer.set_result(self._without_engine(each.id, each.accounts))

    # The stream of messages.

    async def _run(self) -> None:
        while not self._closing:  # a library between may take the cancellation for its timeout
            if not self._registered:
                await self._register()
                if not self._registered:
                    await asyncio.sleep(RETRY_S)
                continue
            timer = asyncio.get_running_loop().call_later(self._lease_s / RENEWALS, self._renewal_due)
            await self._work.wait()
            timer.cancel()
            self._work.clear()
            try:
                await self._tell(self._message())
            except EngineLost:
                self._registered = False  # asked once more at once

    def _ended_early(self, task: asyncio.Task[None]) -> None:
        """By a fault of ours: no request is to wait for what does not come."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._registered = False
            self._lost(type(error).__name__)

    def _renewal_due(self) -> None:
        self._renew = True
        self._work.set()

    async def _register(self) -> None:
        self._to_show = list(self._seen)
        try:
            await self._tell(self._message(first=True))
        except EngineLost as error:
            self._lost(str(error))
            return
        self._registered = self._renew = True
        self._work.set()
        if self._away is not None:
            self._away = None
            if self._reported:
                self._reported = False
                self._on_change(None)

    def _lost(self, reason: str) -> None:
        self._away = reason
        if not self._reported:
            self._reported = True
            self.losses += 1
            self._on_change(reason)
        self._answer_without_engine()

    def _message(self, *, first: bool = False, leave: bool = False) -> SharedMessage:
        if not self._unacknowledged and self._ended:
            self._ends_seq += 1
            self._unacknowledged = tuple(self._ended[:MOST])
            del self._ended[:MOST]
        self._seq += 1
        show, self._to_show = self._to_show[:MOST], self._to_show[MOST:]
        message = SharedMessage(
            node=self.node,
            seq=self._seq,
            lease=round(self._lease_s * 1000),
            first=first,
            leave=leave,
            ends_seq=self._ends_seq,
            ends=self._unacknowledged,
            seen=tuple((name, self._seen[name].day, self._seen[name].values) for name in show),
        )
        if first:
            message.live = tuple((each.id, each.names) for each in self._live())
        elif not leave:
            message.reserve = tuple((each.id, each.accounts) for each in self._waiting[:MOST])
            if self._renew:
                self._renew = False
                message.hold = tuple(self._advance.wanted())
                message.read = self._next_read()
        return message

    def _live(self) -> Iterator[SharedLease]:
        """What runs, and what has ended and is not told in this message."""
        yield from self._running.values()
        yield from (SharedLease(each.id, each.names) for each in self._ended)

    def _next_read(self) -> tuple[str, ...]:
        if not self._to_read:
            self._to_read = list(self.watched())
        names, self._to_read = self._to_read[:MOST], self._to_read[MOST:]
        return tuple(names)

    async def _tell(self, message: SharedMessage) -> None:
        """Raises EngineLost. What was not taken is told again later."""
        sent = self._clock()
        reply = await self._engine.tell(message)
        if reply.state != "ok":
            raise EngineLost("this gateway's lease has lapsed")
        try:
            self._take(message, reply, sent=sent)
        except ValueError:
            raise EngineLost("the reply is not valid") from None
        if self._waiting or self._ended or self._to_show:
            self._work.set()

    def _take(self, message: SharedMessage, reply: SharedReply, *, sent: float) -> None:
        """Raises ValueError."""
        told, outcomes, held = totals_of(reply), rows(reply.reserve), rows(reply.held)
        if len(outcomes) != len(message.reserve) or len(held) != len(message.hold):
            raise ValueError(reply)
        received = self._clock()
        self._leased_until = sent + self._lease_s
        self._offset = float(reply.now) / 1000 - (sent + received) / 2
        self.nodes = reply.nodes
        self._unacknowledged = ()
        for name, totals in told.items():
            self._seen[name] = totals
            self._on_totals(name, totals)
        if message.first:
            self._advance.forget()
        for (accounts, _), count in zip(message.hold, held, strict=True):
            self._advance.has(accounts[0].name, count)
        answered = self._waiting[: len(outcomes)]
        del self._waiting[: len(outcomes)]
        for waiting, outcome in zip(answered, outcomes, strict=True):
            self._answer(waiting, outcome)

    def _answer(self, waiting: _Waiting, outcome: list[str]) -> None:
        if outcome[0] == "ok":
            self.counts["reserved"] += 1
            lease = self.lease(waiting.id, waiting.accounts)
            if waiting.answer.done():
                self.end(lease)  # cancelled meanwhile
            else:
                waiting.answer.set_result(lease)
            return
        self.counts["refused"] += 1
        if not waiting.answer.done():
            why, name, *numbers = outcome
            waiting.answer.set_result(SharedRefusal(why, name, tuple(numbers)))
