"""Runs that attach to a gateway of a test."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from modelplex.records.run_facts import SandboxFacts
from modelplex.records.store_sink import RunInfo
from modelplex.sandbox.run_link import RunLink, connect
from modelplex.server.run_control import RunControl
from modelplex.server.run_messages import RunRequest
from tests.gateways import Running
from tests.processes import CHAT, WAIT_S, Answer, chat, exchange, read_response, request


class Run:
    """`path` is its own socket."""

    def __init__(self, link: RunLink, path: str) -> None:
        self.link = link
        self.path = path

    async def ask(self, model: str = "m") -> Answer:
        data = request("POST", CHAT, chat(model))
        return read_response(await exchange(self.path, data))

    async def said(self) -> RunLink:
        """Once the gateway has said something more."""
        await asyncio.to_thread(self.link.read, wait_s=WAIT_S)
        return self.link

    async def leave(self) -> RunLink:
        await asyncio.to_thread(self.link.leave, timeout_s=WAIT_S)
        return self.link


class Control:
    """`path` is where runs attach, as to a gateway of the host."""

    def __init__(self, path: str, folder: Path) -> None:
        self.path = path
        self._folder = folder
        self._links: list[RunLink] = []

    async def attach(self, *, id: str = "run-1", facts: SandboxFacts | None = None, **more: Any) -> Run:
        """A run whose request has been answered. `facts` are sent right after it."""
        own = str(self._folder / f"{id}.sock")
        link = connect(self.path)
        assert link is not None
        self._links.append(link)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(own)
            listener.listen(16)
            link.send(RunRequest(path=own, run=RunInfo(id=id, started=1.0, command="true"), **more), listener)
        if facts is not None:
            link.report(facts)
        run = Run(link, own)
        await run.said()
        return run

    def close(self) -> None:
        for link in self._links:
            link.close()


@asynccontextmanager
async def control(gateway: Running, *, first: socket.socket | None = None) -> AsyncGenerator[Control]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = str(Path(folder) / "c.runs")
        made = RunControl(path, first=first)
        made.claim()
        await made.open(gateway.process.runs)
        runs = Control(path, Path(folder))
        try:
            yield runs
        finally:
            await made.close()
            runs.close()
