"""The legacy sessions over HTTP: their limits, their owners and their expiry."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from modelplex.config.mcp_settings import McpConfig
from modelplex.core.caller import Caller
from modelplex.mcp.clients.message_stream import MessageStream
from modelplex.mcp.clients.session import ClientConversation, ToolBackend

SWEEP_SECONDS: Final = 30.0
"""Seconds between two checks for idle sessions."""
KEPT_STREAMS: Final = 16
"""Finished streams of a session that can be resumed. A client that resumes does so
within seconds.
"""
KEPT_BYTES: Final = 4 * 1024 * 1024
"""Bytes of all finished streams of a session; the newest always stays."""
KEPT_OF_ALL: Final = 32 * 1024 * 1024
"""Bytes of finished streams in all sessions. Beyond, those of the caller with the most are dropped,
of the least recently used sessions first.
"""
GET_STREAM: Final = "0"
"""The key of the stream for messages that belong to no request."""


class LegacySession(ClientConversation):
    """A legacy session over HTTP: a conversation with named streams and an id."""

    def __init__(
        self,
        gateway: ToolBackend,
        caller: Caller,
        *,
        server: str | None,
        session: str,
        now: float,
        single_stream: bool,
    ) -> None:
        super().__init__(
            gateway,
            caller,
            server=server,
            session=session,
            stream=MessageStream(GET_STREAM, owner=caller.owner, resumable=not single_stream),
        )
        self.last_used = now
        self.single_stream = single_stream
        """It has one stream and ends with it, as in 2024-11-05."""
        self._streams: OrderedDict[str, MessageStream] = OrderedDict()
        self._count = 0
        self.kept_bytes = 0
        """Bytes of its finished streams."""

    @property
    def idle(self) -> bool:
        """Whether no client is connected and no request runs."""
        return (
            not self.busy
            and not self.stream.connected
            and not any(stream.connected for stream in self._streams.values())
        )

    def belongs_to(self, caller: Caller, server: str | None) -> bool:
        key = (self.caller.listener, self.caller.owner, self.server)
        return key == (caller.listener, caller.owner, server)

    def request_stream(self, *, json_only: bool) -> MessageStream:
        self._count += 1
        stream = MessageStream(str(self._count), owner=self.caller.owner, resumable=True, json_only=json_only)
        self._streams[stream.key] = stream
        return stream

    def finish_stream(self, stream: MessageStream) -> None:
        """A stream has its last message. It is kept only if the client has seen its ids."""
        stream.finish()
        if not stream.ids_sent:
            self._streams.pop(stream.key, None)
        finished = [each for each in self._streams.values() if each.finished]
        self.kept_bytes = sum(each.size for each in finished)
        while len(finished) > 1 and (len(finished) > KEPT_STREAMS or self.kept_bytes > KEPT_BYTES):
            oldest = finished.pop(0)
            del self._streams[oldest.key]
            self.kept_bytes -= oldest.size

    def drop_finished(self) -> None:
        """Drop finished streams; a client cannot resume them any more."""
        for stream in [each for each in self._streams.values() if each.finished]:
            del self._streams[stream.key]
        self.kept_bytes = 0

    def find(self, key: str) -> MessageStream | None:
        return self.stream if key == GET_STREAM else self._streams.get(key)


class Sessions:
    """All sessions of the process. `ids` gives 128 random bits, `clock` seconds."""

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
        """End every session and its requests."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for session in tuple(self._sessions.values()):
            self.end(session)
        while self._ending:
            await asyncio.wait(tuple(self._ending))

    def find(self, name: str, caller: Caller, server: str | None) -> LegacySession | None:
        """The session of this id, if it belongs to this caller."""
        session = self._sessions.get(name)
        if session is None or not session.belongs_to(caller, server):
            return None
        session.caller = caller  # the agent's permissions may have changed since the session began
        session.last_used = self.clock()
        self._sessions.move_to_end(session.session)
        return session

    def make_room(self, caller: Caller) -> bool:
        """Whether one more session fits on this listener. To make room, an idle session of the same
        owner ends, since clients seldom end theirs; or one of the caller with the most sessions, if
        this caller has fewer.
        """
        here = [each for each in self._sessions.values() if each.caller.listener == caller.listener]
        if len(here) < self.config.max_sessions:
            return True
        evicted = next((each for each in here if each.idle and each.caller.owner == caller.owner), None)
        evicted = evicted or _session_to_evict(here, caller.owner)
        if evicted is not None:
            self.end(evicted)
        return evicted is not None

    def add(
        self, gateway: ToolBackend, caller: Caller, *, server: str | None, single_stream: bool
    ) -> LegacySession:
        session = LegacySession(
            gateway, caller, server=server, session=self._ids(), now=self.clock(), single_stream=single_stream
        )
        self._sessions[session.session] = session
        if self._sweeper is None:
            self._sweep_later()
        return session

    def finish_stream(self, session: LegacySession, stream: MessageStream) -> None:
        """A request's stream has its last message."""
        session.finish_stream(stream)
        if session.kept_bytes:
            self._bound_kept()

    def _bound_kept(self) -> None:
        kept: Counter[str] = Counter()
        for each in self._sessions.values():
            kept[each.caller.owner] += each.kept_bytes
        while kept.total() > KEPT_OF_ALL:
            owner = kept.most_common(1)[0][0]
            oldest = next(
                each for each in self._sessions.values() if each.kept_bytes and each.caller.owner == owner
            )
            kept[owner] -= oldest.kept_bytes
            oldest.drop_finished()

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
            if not session.idle:
                session.last_used = now
            elif now - session.last_used > self.config.session_idle:
                self.end(session)
        if self._sessions:
            self._sweep_later()


def _session_to_evict(sessions: Sequence[LegacySession], owner: str) -> LegacySession | None:
    """A session of the caller with the most: the oldest idle one, else the oldest. None if `owner`
    would have as many.
    """
    counts = Counter(each.caller.owner for each in sessions)
    owner_of_most, most = counts.most_common(1)[0]
    if most <= counts[owner] + 1:
        return None
    candidates = [each for each in sessions if each.caller.owner == owner_of_most]
    return next((each for each in candidates if each.idle), candidates[0])
