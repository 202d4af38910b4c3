"""A gateway with its store on a small file system, which becomes full and has space again.

Runs in a mount namespace (`unshare -rm`), with which the file system ends. Writes what it saw as
JSON, which tests/server/test_record_store.py checks.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelplex.records import store_sink
from modelplex.records.store import queries
from modelplex.records.store.database import open_database
from modelplex.server.record_store import FILE
from tests.gateways import WAIT_S, Running, gateway

SIZE = "8m"
"""Of the file system: the Records of these tests take 2 MB, with the write-ahead log."""
ROUND = 8
"""Calls in each phase."""
QUEUE_LIMIT = 5
"""Records that wait, in the case in which some are lost."""
CONFIG = """
[server]
state_folder = "{disk}"
[[providers]]
name = "demo"
[record]
content = "full"
{more}
"""


def mount(folder: Path) -> None:
    """Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", ctypes.c_ulong(0), f"size={SIZE}".encode()):
        raise OSError(ctypes.get_errno(), "mount")


def fill(folder: Path) -> None:
    """Take all space, to the last byte."""
    with (folder / "ballast").open("ab", buffering=0) as file:
        for size in (65_536, 4_096, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def release(folder: Path) -> None:
    (folder / "ballast").unlink()


class Watched:
    """A gateway, and what was asked and answered."""

    def __init__(self, gw: Running) -> None:
        self._gw = gw
        self.statuses: list[int] = []
        self.bodies: dict[str, bytes] = {}

    async def ask(self, count: int) -> None:
        for _ in range(count):
            noise = os.urandom(20_000).hex()
            body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": noise}]}).encode()
            answer = await self._gw.ask("POST", "/v1/chat/completions", body)
            self.statuses.append(answer.status)
            self.bodies[answer.headers["x-request-id"]] = body

    async def records(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self._gw.ask("GET", "/_internal/status")).json["records"]
        return found

    async def until(self, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S):
            while not true(status := await self.records()):
                await asyncio.sleep(0.02)
        return status

    async def metrics(self) -> list[str]:
        lines = (await self._gw.ask("GET", "/_internal/metrics")).body.decode().splitlines()
        return [line for line in lines if line.startswith("modelplex_record")]


async def scenario(folder: Path, *, case: str) -> dict[str, Any]:
    """`case` is "later" or "at-start": when the disk is full."""
    disk = folder / "disk"
    disk.mkdir()
    mount(disk)
    more = ""
    if case == "at-start":
        fill(disk)
        more = f'store = "{disk / FILE}"'
    async with gateway(CONFIG.format(disk=disk, more=more), folder=folder) as gw:
        watched = Watched(gw)
        if case == "later":
            await watched.ask(ROUND)
            await watched.until(lambda status: status["written"] == ROUND)
            fill(disk)
        before = len(watched.bodies)
        await watched.ask(ROUND)
        full = await watched.until(lambda status: bool(status["failure"]))
        metrics = await watched.metrics()
        await watched.ask(ROUND)
        waiting = await watched.until(lambda status: status["waiting"] + status["dropped"] == 2 * ROUND)
        readable = calls_in(disk, read_only=True) if before else []
        release(disk)
        await watched.ask(ROUND)
        after = await watched.until(
            lambda status: (
                not status["failure"] and status["written"] + status["dropped"] == before + 3 * ROUND
            )
        )
        metrics_after = await watched.metrics()
    return {
        "statuses": sorted(set(watched.statuses)),
        "full": full,
        "metrics": metrics,
        "waiting": waiting,
        "readable": len(readable),
        "after": after,
        "metrics_after": metrics_after,
        **checked(disk, watched.bodies),
        "log": [json.loads(line)["event"] for line in (folder / "log.json").read_text().splitlines()],
    }


def calls_in(disk: Path, *, read_only: bool) -> list[str]:
    db = open_database(disk / FILE, read_only=read_only)
    try:
        return [id_ for (id_,) in db.query("SELECT id FROM calls")]
    finally:
        db.close()


def checked(disk: Path, sent: dict[str, bytes]) -> dict[str, Any]:
    """What is in the database of a gateway that has ended."""
    db = open_database(disk / FILE)
    calls = [id_ for (id_,) in db.query("SELECT id FROM calls")]
    stored = {id_: queries.request_body(db, id_) for id_ in calls}
    db.close()
    with sqlite3.connect(disk / FILE) as raw:
        integrity = raw.execute("PRAGMA integrity_check").fetchall()
    raw.close()
    return {
        "integrity": integrity,
        "sent": len(sent),
        "stored": len(calls),
        "exact": sum(sent.get(id_) == body for id_, body in stored.items()),
    }


def main() -> None:
    folder, case = sys.argv[1:]
    fast = store_sink
    fast.RETRY_S = 0.1  # type: ignore[misc]
    if case == "at-start":
        fast.QUEUE_LIMIT = QUEUE_LIMIT  # type: ignore[misc]
    seen = asyncio.run(scenario(Path(folder), case=case))
    (Path(folder) / "seen.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
