"""The process of a mirror: serves on Unix sockets what the MirrorSpec on its standard input says.

It is started by `modelplex run` without the user's environment, so that it holds no key but what
the index itself wants. It ends when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from modelplex.http_client import HttpClient
from modelplex.packages.allow_list import AllowList, ListedPackage, LockedPackage
from modelplex.packages.app import MirrorApp
from modelplex.packages.mirror import PackageFetch, PackageMirror
from modelplex.packages.names import Ecosystem
from modelplex.packages.sites import Site
from modelplex.packages.upstream import IndexClient, IndexSpec
from modelplex.records.store_sink import RetentionRules, RunInfo, StoreOptions, StoreSink
from modelplex.records.tool_call import ToolRecord
from modelplex.server.connection import Connection
from modelplex.server.connection_limits import ConnectionLimits
from modelplex.server.connection_registry import ConnectionRegistry

MAX_SPEC: Final = 268_435_456
"""Bytes of a MirrorSpec: a lock file of 50,000 packages has some 30 MB."""
MAX_REFUSALS: Final = 1_000
"""Of one run, that are recorded. The program can cause any number."""
CONNECTIONS: Final = 512
READY: Final = b"R"
SUMMARY: Final = "summary.json"
"""In the mirror's folder, once it has ended."""


class SocketSpec(msgspec.Struct, frozen=True):
    path: str
    tls: bool


class MirrorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """indexes  in the order in which they are asked
    bases    the address of each index in the sandbox
    min_age  seconds since the release of what may be had
    certificate  PEM, with its key, for the sockets with TLS
    store    the path of the record's file, or None; `run` is the run to which its calls belong,
             `host` this host in it
    """

    indexes: dict[Ecosystem, tuple[IndexSpec, ...]]
    bases: dict[Ecosystem, str]
    locked: tuple[LockedPackage, ...]
    listed: tuple[ListedPackage, ...]
    sites: dict[str, tuple[Site, ...]]
    sockets: tuple[SocketSpec, ...]
    certificate: str
    folder: str
    agent: str = ""
    min_age: float = 0.0
    store: str | None = None
    rules: RetentionRules = RetentionRules()
    run: RunInfo | None = None
    host: str = ""


class MirrorSummary(msgspec.Struct):
    """What a run fetched. `refused` are the names that were asked for and not allowed, `withheld`
    allowed files with the reason.
    """

    fetched: int = 0
    size: int = 0
    failed: int = 0
    refused: list[str] = []
    withheld: list[str] = []


class FetchReports:
    """Writes each fetch to the log, the record and the summary."""

    def __init__(self, sink: StoreSink | None, *, agent: str) -> None:
        self.summary = MirrorSummary()
        self._agent = agent
        self._sink = sink
        self._refusals = 0

    def __repr__(self) -> str:
        return f"<FetchReports {self.summary!r}>"

    def __call__(self, fetch: PackageFetch) -> None:
        if fetch.outcome == "refused":
            self._refusals += 1
            if self._refusals > MAX_REFUSALS:
                return
            shown = f"{fetch.wanted} ({fetch.reason})" if fetch.reason else fetch.wanted
            names = self.summary.withheld if fetch.reason else self.summary.refused
            if shown not in names:
                names.append(shown)
        elif fetch.outcome == "ok":
            self.summary.fetched += 1
            self.summary.size += fetch.size
        else:
            self.summary.failed += 1
        line = {"event": "package", **cast("dict[str, object]", msgspec.to_builtins(fetch))}
        with suppress(OSError):
            os.write(2, msgspec.json.encode(line) + b"\n")
        if self._sink is not None:
            self._sink.record(_as_record(fetch, id=f"pkg_{os.urandom(12).hex()}", agent=self._agent))


def _as_record(fetch: PackageFetch, *, id: str, agent: str) -> ToolRecord:
    return ToolRecord(
        id=id,
        started=fetch.started,
        listener="packages",
        client="",
        agent=agent,
        era="",
        server=fetch.ecosystem,
        tool=fetch.wanted.partition(":")[2],
        method="packages/get",
        decision="deny" if fetch.outcome == "refused" else "allow",
        rule=(fetch.reason or "not in a lock file") if fetch.outcome == "refused" else "",
        outcome=fetch.outcome,
        error=fetch.reason or None,
        seconds=fetch.seconds,
        bytes_out=fetch.size,
    )


class _LogEvents:
    """Reports of the store, as lines of the log."""

    def warning(self, event: str, **fields: object) -> None:
        self._write("warning", event, fields)

    def info(self, event: str, **fields: object) -> None:
        self._write("info", event, fields)

    def _write(self, level: str, event: str, fields: Mapping[str, object]) -> None:
        with suppress(OSError):
            os.write(2, msgspec.json.encode({"level": level, "event": event, **fields}, enc_hook=str) + b"\n")


async def serve(spec: MirrorSpec, *, sink: StoreSink | None, stdin: int, ready: int) -> MirrorSummary:
    """Serve until `stdin` is closed. One byte is written to `ready` once all sockets listen."""
    loop = asyncio.get_running_loop()
    reports = FetchReports(sink, agent=spec.agent)
    client = HttpClient()
    mirror = PackageMirror(
        IndexClient(spec.indexes, client=client, with_times=spec.min_age > 0),
        AllowList(spec.locked, spec.listed),
        folder=Path(spec.folder),
        newest=time.time() - spec.min_age if spec.min_age > 0 else None,
        report=reports,
    )
    app = MirrorApp(mirror, sites=spec.sites, bases=spec.bases)
    limits = ConnectionLimits(
        max_connections=CONNECTIONS,
        max_connections_per_listener=CONNECTIONS,
        max_connections_per_caller=CONNECTIONS,
        reserved_connections=0,
    )
    registry = ConnectionRegistry(limits=limits, loop=loop)
    context = _tls(spec) if any(each.tls for each in spec.sockets) else None

    def accept() -> Connection:
        state: dict[str, Any] = {"listener": "packages", "kind": "unix"}
        return Connection(app, traffic=registry, state=state, identify=lambda _: (None, "sandbox"))

    servers = [
        await loop.create_unix_server(accept, each.path, ssl=context if each.tls else None)
        for each in spec.sockets
    ]
    os.write(ready, READY)
    os.close(ready)
    closed = asyncio.Event()
    loop.add_reader(stdin, closed.set)
    await closed.wait()
    for server in servers:
        server.close()
    for connection in tuple(registry.open):
        connection.transport.abort()
    await client.aclose()
    return reports.summary


def _tls(spec: MirrorSpec) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    path = Path(spec.folder, "certificate.pem")
    path.write_text(spec.certificate)
    context.load_cert_chain(path)
    path.unlink()
    return context


def _open_sink(spec: MirrorSpec) -> StoreSink | None:
    place = spec.store
    if place is None:
        return None
    from modelplex.records.store.database import Database, open_database

    def open_store() -> Database:
        return open_database(place)

    options = StoreOptions(run=spec.run, host=spec.host)
    sink = StoreSink(open_store, options, rules=spec.rules, report=_LogEvents())
    sink.start()
    return sink


def main() -> int:
    logging.basicConfig(level=logging.WARNING)
    with os.fdopen(os.dup(0), "rb") as file:
        size = int(file.readline())
        spec = msgspec.json.decode(file.read(min(size, MAX_SPEC)), type=MirrorSpec)
    sink = _open_sink(spec)
    summary = asyncio.run(serve(spec, sink=sink, stdin=0, ready=1))
    if sink is not None:
        sink.close()
    Path(spec.folder, SUMMARY).write_bytes(msgspec.json.encode(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
