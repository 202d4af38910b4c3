"""The sessions of legacy clients over HTTP: who has which, how many there may be, and when one is
over.

Above it stands `http`, which reads their names from headers; below it the conversation. It knows
the clock that it is given and the loop's timers, and nothing of messages.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from modelplex.config.settings import McpConfig
from modelplex.core.caller import Caller
from modelplex.mcp.clients.session import (
    KEPT_BYTES,
    KEPT_STREAMS,
    ClientConversation,
    MessageStream,
    ToolBackend,
)

SWEEP_SECONDS: Final = 30.0
"""How often sessions are looked at that nobody uses; at most this much later than configured one
goes.
"""
KEPT_OF_ALL: Final = 32 * 1024 * 1024
"""Bytes of the finished streams of all sessions; beyond, those of the caller who has most go, of
the sessions that were used longest ago first.
"""
GET_STREAM: Final = "0"
"""The key of the stream of what belongs to no request."""


class LegacySession(ClientConversation):
    """A legacy client's, over HTTP: a Conversation with streams that have names, known by an id in
    a header.
    """

    def __init__(
        self,
        gateway: ToolBackend,
        caller: Caller,
        *,
        server: str | None,
        session: str,
        now: float,
        alone: bool,
    ) -> None:
        super().__init__(
            gateway,
            caller,
            server=server,
            session=session,
            stream=MessageStream(GET_STREAM, owner=caller.owner, keeps=not alone),
        )
        self.used = now
        self.alone = alone
        """It has one stream and ends with it, as of 2024-11-05."""
        self._streams: OrderedDict[str, MessageStream] = OrderedDict()
        self._count = 0
        self.kept = 0
        """Bytes of its finished streams."""

    @property
    def quiet(self) -> bool:
        """Nobody is connected and nothing runs."""
        return (
            not self.busy
            and not self.stream.connected
            and not any(stream.connected for stream in self._streams.values())
        )

    def belongs_to(self, caller: Caller, server: str | None) -> bool:
        mine = (self.caller.listener, self.caller.owner, self.server)
        return mine == (caller.listener, caller.owner, server)

    def request_stream(self, *, mute: bool) -> MessageStream:
        self._count += 1
        stream = MessageStream(str(self._count), owner=self.caller.owner, keeps=True, mute=mute)
        self._streams[stream.key] = stream
        return stream

    def finished(self, stream: MessageStream) -> None:
        """The last of its messages is there. Kept only where the client knows its name."""
        stream.finish()
        if not stream.shown:
            self._streams.pop(stream.key, None)
        over = [each for each in self._streams.values() if each.finished]
        self.kept = sum(each.size for each in over)
        while len(over) > 1 and (len(over) > KEPT_STREAMS or self.kept > KEPT_BYTES):
            oldest = over.pop(0)
            del self._streams[oldest.key]
            self.kept -= oldest.size

    def forget(self) -> None:
        """What is kept of finished streams; who comes back for it has to ask anew."""
        for stream in [each for each in self._streams.values() if each.finished]:
            del self._streams[stream.key]
        self.kept = 0

    def find(self, key: str) -> MessageStream | None:
        return self.stream if key == GET_STREAM else self._streams.get(key)


class Sessions:
    """All of a process. `ids` gives 128 random bits, `clock` seconds."""

    def __init__(self, config: McpConfig, *, ids: Callable[[], str], clock: Callable[[], float]) -> None:
        self.config = config
        self._ids = ids
        self.clock = clock
        self._sessions: OrderedDict[str, LegacySession] = OrderedDict()
        self._sweeper: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Sessions {len(self._sessions)}>"

    def __len__(self) -> int:
        return len(self._sessions)

    async def close(self) -> None:
        """End every one, and what runs in it."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for session in tuple(self._sessions.values()):
            self.end(session)
        while self._ending:
            await asyncio.wait(tuple(self._ending))

    def find(self, name: str, caller: Caller, server: str | None) -> LegacySession | None:
        """The one that is named, if it is this caller's: another's is as unknown as none."""
        session = self._sessions.get(name)
        if session is None or not session.belongs_to(caller, server):
            return None
        session.caller = caller  # what its agent may do can have changed since it began
        session.used = self.clock()
        self._sessions.move_to_end(session.session)
        return session

    def room(self, caller: Caller) -> bool:
        """Whether one more may be made on this listener. One that its owner left behind makes room,
        since clients seldom say that they end; or one of the caller who has most of them, where
        this one has fewer.
        """
        here = [each for each in self._sessions.values() if each.caller.listener == caller.listener]
        if len(here) < self.config.max_sessions:
            return True
        left = next((each for each in here if each.quiet and each.caller.owner == caller.owner), None)
        left = left or _of_greediest(here, caller.owner)
        if left is not None:
            self.end(left)
        return left is not None

    def add(self, gateway: ToolBackend, caller: Caller, *, server: str | None, alone: bool) -> LegacySession:
        session = LegacySession(
            gateway, caller, server=server, session=self._ids(), now=self.clock(), alone=alone
        )
        self._sessions[session.session] = session
        if self._sweeper is None:
            self._sweep_later()
        return session

    def finished(self, session: LegacySession, stream: MessageStream) -> None:
        """The last message of a request's stream is there."""
        session.finished(stream)
        if session.kept:
            self._bound_kept()

    def _bound_kept(self) -> None:
        kept: Counter[str] = Counter()
        for each in self._sessions.values():
            kept[each.caller.owner] += each.kept
        while kept.total() > KEPT_OF_ALL:
            owner = kept.most_common(1)[0][0]
            oldest = next(
                each for each in self._sessions.values() if each.kept and each.caller.owner == owner
            )
            kept[owner] -= oldest.kept
            oldest.forget()

    def end(self, session: LegacySession) -> None:
        if self._sessions.pop(session.session, None) is not None:
            task = asyncio.create_task(session.end())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _sweep_later(self) -> None:
        wait = min(SWEEP_SECONDS, max(0.01, self.config.session_idle / 4))
        self._sweeper = asyncio.get_running_loop().call_later(wait, self._sweep)

    def _sweep(self) -> None:
        now = self.clock()
        self._sweeper = None
        for session in tuple(self._sessions.values()):
            if not session.quiet:
                session.used = now
            elif now - session.used > self.config.session_idle:
                self.end(session)
        if self._sessions:
            self._sweep_later()


def _of_greediest(sessions: Sequence[LegacySession], owner: str) -> LegacySession | None:
    """A session of the caller who has most: the oldest that nobody uses, else the oldest. None
    where `owner` would have as many.
    """
    counts = Counter(each.caller.owner for each in sessions)
    greediest, most = counts.most_common(1)[0]
    if most <= counts[owner] + 1:
        return None
    theirs = [each for each in sessions if each.caller.owner == greediest]
    return next((each for each in theirs if each.quiet), theirs[0])
