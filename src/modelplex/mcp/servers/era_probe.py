"""Finds the protocol era of a server: probes once, and again if the stored result is wrong.

No single error code identifies a legacy server: their libraries answer an unknown first request in
at least four ways, and one exits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final, Protocol, TypeAlias, cast

import msgspec

from modelplex.config.mcp_settings import McpProtocol
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
from modelplex.mcp.servers.cache import ServerEra
from modelplex.mcp.servers.channel import ConnectionLost, HttpRefused, ServerError
from modelplex.mcp.servers.session import ServerSession, is_supported

LEGACY_STATUSES: Final = frozenset({400, 404, 405})
"""Statuses of an HTTP server that does not know the probe. After `initialize`, they may mean
HTTP+SSE.
"""
MAX_MISSED_PROBES: Final = 2
"""Times in a row that a server must miss the probe's deadline before it is no longer probed: a
modern one may start slowly on a busy machine.
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


ProbeResult: TypeAlias = Modern | ModernRetry | Legacy | Incompatible


class NoCommonEra(ServerError):
    """The server and the gateway have no revision in common."""


def interpret_probe(reply: McpReply, *, version: str) -> ProbeResult:
    """The era of a server by its reply to `server/discover` in this version. Pure."""
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
        return Incompatible(
            f"It supports {', '.join(supported[:8])}, and the gateway supports none of these."
        )
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
    connect: Connect, *, protocol: McpProtocol, stored: ServerEra | None, remote: bool, probe_timeout: float
) -> tuple[ServerSession, ServerEra]:
    """A session in its era, and the era to store. The caller sets the timeout.

    Raises: NoCommonEra if there is no common revision, or the handshake was refused.
    ConnectionLost, HttpRefused if it could not be reached or was lost.
    """
    match protocol, stored:
        case ("modern", _) | ("auto", ServerEra(era="modern")):
            return await _connect_as_modern(
                connect, certain=protocol == "modern", remote=remote, probe_timeout=probe_timeout
            )
        case ("legacy", _) | ("auto", ServerEra(era="legacy", missed_probes=0)):
            sse = stored is not None and stored.era == "legacy" and stored.sse
            return await _handshake(connect, await connect(sse=sse), sse=sse)
        case ("auto", ServerEra(era="legacy")) if stored.missed_probes >= MAX_MISSED_PROBES:
            return await _handshake(connect, await connect())
        case _:
            missed_probes = 0 if stored is None else stored.missed_probes
            return await _connect_by_probe(
                connect, remote=remote, probe_timeout=probe_timeout, missed_probes=missed_probes
            )


async def _connect_as_modern(
    connect: Connect, *, certain: bool, remote: bool, probe_timeout: float
) -> tuple[ServerSession, ServerEra]:
    """For a configured (`certain`) or stored era. A configured one has the whole start timeout."""
    session = await connect()
    async with _closing(session) as keep:
        try:
            result = await asyncio.wait_for(_probe(session), None if certain else probe_timeout * 2)
        except (TimeoutError, ConnectionLost):
            if certain or remote:
                raise
            result = Legacy()
        except HttpRefused as refused:
            if certain or refused.status not in LEGACY_STATUSES:
                raise
            result = Legacy()
        if isinstance(result, Modern):
            keep()
            return _adopted(session, result)
        if certain:
            raise NoCommonEra(
                result.sentence
                if isinstance(result, Incompatible)
                else "It does not support the modern protocol, which its config requires."
            )
    # The stored era is wrong.
    return await _connect_by_probe(connect, remote=remote, probe_timeout=probe_timeout)


async def _connect_by_probe(
    connect: Connect, *, remote: bool, probe_timeout: float, missed_probes: int = 0
) -> tuple[ServerSession, ServerEra]:
    session = await connect()
    async with _closing(session) as keep:
        fresh = late = False
        try:
            result = await asyncio.wait_for(_probe(session), probe_timeout)
        except TimeoutError:
            result, fresh, late = Legacy(), True, True
        except ConnectionLost:
            if remote:
                raise  # not reached: the era is unknown
            result, fresh = Legacy(), True
        except HttpRefused as refused:
            if refused.status in {401, 403, 429} or refused.status >= 500:
                raise
            result = Legacy()
        if isinstance(result, Modern):
            keep()
            return _adopted(session, result)
        if isinstance(result, Incompatible):
            raise NoCommonEra(result.sentence)
        # Some servers exit only after their reply.
        if not (fresh or remote or session.channel.lost.done()):
            try:
                legacy = await _handshake(connect, session)
            except (ConnectionLost, NoCommonEra):
                pass  # the probe may have broken it
            else:
                keep()
                return legacy
    session, era = await _handshake(connect, await connect())
    if late and era.era == "legacy":
        era = msgspec.structs.replace(era, missed_probes=missed_probes + 1)
    return session, era


async def _handshake(
    connect: Connect, session: ServerSession, *, sse: bool = False
) -> tuple[ServerSession, ServerEra]:
    """`initialize`; over HTTP+SSE if the server does not know it."""
    async with _closing(session) as keep:
        try:
            reply = await session.initialize()
        except HttpRefused as refused:
            if sse or refused.status not in LEGACY_STATUSES:
                raise
            reply = None
        if reply is not None:
            if reply.result is not None and is_supported(reply.result):
                await session.finish_handshake(reply.result)
                keep()
                return session, ServerEra("legacy", session.version, sse)
            if reply.error is not None and reply.error["code"] == UNSUPPORTED_VERSION:
                # A modern server that was slow to respond to the probe.
                result = await _probe(session)
                if isinstance(result, Modern):
                    keep()
                    return _adopted(session, result)
            raise NoCommonEra(_refusal(reply))
    return await _handshake(connect, await connect(sse=True), sse=True)


def _refusal(reply: McpReply) -> str:
    if reply.error is not None:
        return f"It refused the handshake with error {reply.error['code']}."
    version = (reply.result or {}).get("protocolVersion")
    return f"It requires {str(version)[:40]!r}, which the gateway does not support."


async def _probe(session: ServerSession) -> ProbeResult:
    """Probe, and once more if the reply names another version or capabilities."""
    result: ProbeResult = ModernRetry(NEWEST)
    for _ in range(2):
        if not isinstance(result, ModernRetry):
            break
        version = result.version
        result = interpret_probe(await session.discover(version, declare=result.declare), version=version)
    if isinstance(result, ModernRetry):
        return Incompatible("It is modern, but rejects `server/discover`.")
    return result


def _adopted(session: ServerSession, result: Modern) -> tuple[ServerSession, ServerEra]:
    session.adopt(result.version, result.result)
    return session, ServerEra("modern", result.version)


@contextlib.asynccontextmanager
async def _closing(session: ServerSession) -> AsyncGenerator[Callable[[], object]]:
    """Closes the session at the end of the block, unless the yielded function was called."""
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(session.close)
        yield stack.pop_all
