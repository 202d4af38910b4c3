"""Finds the protocol era of a server: probes once, remembers, and probes again if the remembered
era is wrong.

`judge` is pure and decides what an answer means. No single error code identifies a legacy server:
their libraries answer an unknown first request in at least four ways, and one exits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeAlias, cast

import msgspec

from modelplex.config.settings import McpProtocol
from modelplex.mcp.constants import (
    HEADER_MISMATCH,
    LEGACY_VERSIONS,
    MISSING_CAPABILITY,
    MODERN_VERSIONS,
    NEWEST,
    UNSUPPORTED_VERSION,
    Json,
    McpReply,
)
from modelplex.mcp.servers.cache import EraVerdict
from modelplex.mcp.servers.session import ConnectionLost, HttpRefused, ServerSession, understood

LEGACY_STATUSES: Final = frozenset({400, 404, 405})
"""Statuses of an HTTP server that does not know the probe. After `initialize`, they may mean
HTTP+SSE.
"""


BELIEVED: Final = 2
"""Times in a row that a server must miss the probe's deadline before it counts as legacy for good:
a modern one may start slowly on a busy machine.
"""


class Modern(msgspec.Struct, frozen=True):
    version: str
    result: Json


class ModernRetry(msgspec.Struct, frozen=True):
    """A modern server; probe again with this version. `declare` sends the config's capabilities,
    which it requires.
    """

    version: str
    declare: bool = False


class Legacy(msgspec.Struct, frozen=True):
    pass


class Incompatible(msgspec.Struct, frozen=True):
    sentence: str


Judgement: TypeAlias = Modern | ModernRetry | Legacy | Incompatible


class NoCommonEra(Exception):
    """The two have no protocol era in common."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


def judge(reply: McpReply, *, version: str) -> Judgement:
    """What a server's answer to `server/discover` in this version says of its era."""
    if reply.result is not None:
        supported = _versions(reply.result.get("supportedVersions"))
        common = _newest(supported)
        return Legacy() if common is None else Modern(common, reply.result)
    error = reply.error or {}
    code, data = error.get("code"), error.get("data")
    details: dict[str, Any] = cast("Json", data) if isinstance(data, dict) else {}
    if code == UNSUPPORTED_VERSION:
        supported = _versions(details.get("supported"))
        if (common := _newest(supported)) is not None:
            return ModernRetry(common)
        if not supported or any(name in LEGACY_VERSIONS for name in supported):
            return Legacy()
        return Incompatible(f"It speaks {', '.join(supported[:8])}, and none of these is spoken here.")
    if code == HEADER_MISMATCH:
        return ModernRetry(version)
    if code == MISSING_CAPABILITY:
        return ModernRetry(version, declare=True)
    return Legacy()


def _versions(value: object) -> list[str]:
    return (
        [name for name in cast("list[object]", value) if isinstance(name, str)]
        if isinstance(value, list)
        else []
    )


def _newest(supported: list[str]) -> str | None:
    return max((name for name in supported if name in MODERN_VERSIONS), default=None)


class Connect(Protocol):
    """Makes a new session over a new process or connection; `sse` is HTTP+SSE. Raises
    ConnectionLost or HttpRefused.
    """

    def __call__(self, *, sse: bool = False) -> Awaitable[ServerSession]: ...


async def connect_session(
    connect: Connect, *, protocol: McpProtocol, known: EraVerdict | None, remote: bool, probe_timeout: float
) -> tuple[ServerSession, EraVerdict]:
    """A session whose era is settled, with the verdict to remember. The caller sets the timeout.

    Raises: NoCommonEra if the two have no revision in common, or the handshake was refused.
    ConnectionLost, HttpRefused if it could not be reached or went away.
    """
    match protocol, known:
        case ("modern", _) | ("auto", EraVerdict(era="modern")):
            return await _connect_as_modern(
                connect, certain=protocol == "modern", remote=remote, probe_timeout=probe_timeout
            )
        case ("legacy", _) | ("auto", EraVerdict(era="legacy", guesses=0)):
            sse = known is not None and known.era == "legacy" and known.sse
            return await _Handshake(connect).on(await connect(sse=sse), sse=sse)
        case ("auto", EraVerdict(era="legacy")) if known.guesses >= BELIEVED:
            return await _Handshake(connect).on(await connect(), sse=False)
        case _:
            guesses = 0 if known is None else known.guesses
            return await _connect_by_probe(
                connect, remote=remote, probe_timeout=probe_timeout, guesses=guesses
            )


async def _connect_as_modern(
    connect: Connect, *, certain: bool, remote: bool, probe_timeout: float
) -> tuple[ServerSession, EraVerdict]:
    """For a configured or remembered era. The server has the whole start timeout if no other era is
    possible.
    """
    session = await connect()
    async with _closing(session) as kept:
        try:
            judgement = await asyncio.wait_for(_probe(session), None if certain else probe_timeout * 2)
        except (TimeoutError, ConnectionLost):
            if certain or remote:
                raise
            judgement = Legacy()
        except HttpRefused as refused:
            if certain or refused.status not in LEGACY_STATUSES:
                raise
            judgement = Legacy()
        if isinstance(judgement, Modern):
            kept()
            return _adopted(session, judgement)
        if certain:
            raise NoCommonEra(
                judgement.sentence
                if isinstance(judgement, Incompatible)
                else "It does not speak the modern form, which its config asks for."
            )
    return await _connect_by_probe(
        connect, remote=remote, probe_timeout=probe_timeout
    )  # the remembered era is wrong


async def _connect_by_probe(
    connect: Connect, *, remote: bool, probe_timeout: float, guesses: int = 0
) -> tuple[ServerSession, EraVerdict]:
    session = await connect()
    async with _closing(session) as kept:
        fresh = late = False
        try:
            judgement = await asyncio.wait_for(_probe(session), probe_timeout)
        except TimeoutError:
            judgement, fresh, late = Legacy(), True, True
        except ConnectionLost:
            if remote:
                raise  # not reached: says nothing of the era
            judgement, fresh = Legacy(), True
        except HttpRefused as refused:
            if refused.status in {401, 403, 429} or refused.status >= 500:
                raise
            judgement = Legacy()
        if isinstance(judgement, Modern):
            kept()
            return _adopted(session, judgement)
        if isinstance(judgement, Incompatible):
            raise NoCommonEra(judgement.sentence)
        # Some servers exit only after their answer.
        if not (fresh or remote or session.channel.lost.done()):
            try:
                result = await _Handshake(connect).on(session, sse=False)
            except (ConnectionLost, NoCommonEra):
                pass  # the probe may have broken it
            else:
                kept()
                return result
    session, verdict = await _Handshake(connect).on(await connect(), sse=False)
    if late and verdict.era == "legacy":
        verdict = msgspec.structs.replace(verdict, guesses=guesses + 1)
    return session, verdict


class _Handshake:
    """`initialize`, and what may follow its refusal."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    async def on(self, session: ServerSession, *, sse: bool) -> tuple[ServerSession, EraVerdict]:
        async with _closing(session) as kept:
            try:
                reply = await session.initialize()
            except HttpRefused as refused:
                if sse or refused.status not in LEGACY_STATUSES:
                    raise
                reply = None
            if reply is not None:
                if reply.result is not None and understood(reply.result):
                    await session.finish_handshake(reply.result)
                    kept()
                    return session, EraVerdict("legacy", session.version, sse)
                if reply.error is not None and reply.error["code"] == UNSUPPORTED_VERSION:
                    # A modern server that was slow to answer the probe.
                    judgement = await _probe(session)
                    if isinstance(judgement, Modern):
                        kept()
                        return _adopted(session, judgement)
                raise NoCommonEra(_refusal(reply))
        return await self.on(await self._connect(sse=True), sse=True)


def _refusal(reply: McpReply) -> str:
    if reply.error is not None:
        return f"It refused the handshake with error {reply.error['code']}."
    version = (reply.result or {}).get("protocolVersion")
    return f"It wants to speak {str(version)[:40]!r}, which is not spoken here."


async def _probe(session: ServerSession) -> Judgement:
    """Probe, and once more if the answer says how."""
    judgement: Judgement = ModernRetry(NEWEST)
    for _ in range(2):
        if not isinstance(judgement, ModernRetry):
            break
        version = judgement.version
        judgement = judge(await session.discover(version, declare=judgement.declare), version=version)
    return (
        Incompatible("It is modern, and yet refuses to be asked what it is.")
        if isinstance(judgement, ModernRetry)
        else judgement
    )


def _adopted(session: ServerSession, judgement: Modern) -> tuple[ServerSession, EraVerdict]:
    session.adopt(judgement.version, judgement.result)
    return session, EraVerdict("modern", judgement.version)


class _closing:  # noqa: N801 - read as the words of a with statement
    """Closes a session on exit, unless it is kept."""

    def __init__(self, session: ServerSession) -> None:
        self._link: ServerSession | None = session

    async def __aenter__(self) -> Callable[[], None]:
        return self._keep

    def _keep(self) -> None:
        self._link = None

    async def __aexit__(self, *_: object) -> None:
        if self._link is not None:
            with contextlib.suppress(ConnectionLost):
                await self._link.close()
