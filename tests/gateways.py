"""A whole gateway in this process, on real sockets: what the end-to-end tests ask."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelplex.config import load
from modelplex.http_client import HttpClient, HttpResponse, Timeouts, parse_origin
from modelplex.records.record import Record
from modelplex.records.tool_call import ToolRecord
from modelplex.server.process import GatewayProcess

WAIT_S = 20.0


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error


@dataclass
class Running:
    """`records` fills as calls end."""

    process: GatewayProcess
    base: str
    socket: str
    client: HttpClient
    records: list[Record]
    over: asyncio.Event

    async def send(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        headers: Sequence[tuple[bytes, bytes]] = ((b"content-type", b"application/json"),),
        unix: bool = False,
    ) -> HttpResponse:
        origin, path = parse_origin(f"unix:{self.socket}" if unix else self.base)
        return await self.client.send(
            origin,
            method=method.encode(),
            target=(path + target).encode(),
            headers=list(headers),
            body=body,
            timeouts=Timeouts(connect=WAIT_S, first_byte=WAIT_S, idle=WAIT_S),
        )

    async def ask(self, method: str, target: str, body: Any = None, **more: Any) -> Answer:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        reply = await self.send(method, target, data, **more)
        content = await reply.body(limit=100_000_000)
        return Answer(reply.status, {n.decode(): v.decode() for n, v in reply.headers}, content)

    async def chat(
        self, model: str = "m", *, stream: bool = False, unix: bool = False, **more: Any
    ) -> Answer:
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **more}
        if stream:
            body["stream"] = True
        return await self.ask("POST", "/models/v1/chat/completions", body, unix=unix)

    async def record(self, number: int = 1) -> Record:
        """The Record of the call with this number, once it is there."""
        async with asyncio.timeout(WAIT_S):
            while len(self.records) < number:
                await asyncio.sleep(0.005)
        return self.records[number - 1]


class RecordedRequests:
    """A sink that keeps the Records of model requests."""

    def __init__(self, records: list[Record]) -> None:
        self._records = records

    def record(self, record: Record | ToolRecord, /) -> None:
        if isinstance(record, Record):
            self._records.append(record)


@asynccontextmanager
async def gateway(
    config: str, *, folder: Path, environ: dict[str, str] | None = None, port: int = 0
) -> AsyncGenerator[Running, None]:
    """Serve this config on a port, by default one of the system's choice, and on a socket in
    `folder`, until the block ends.
    """
    file = folder / "config.toml"
    socket = str(folder / "m.sock")
    if "[server]" not in config:
        config = "[server]\n" + config
    config = config.replace("[server]", f'[server]\nhttp = "127.0.0.1:{port}"\nsocket = "{socket}"\n', 1)
    if "state_folder" not in config:
        config = config.replace("[server]", f'[server]\nstate_folder = "{folder / "state"}"', 1)
    if "[log]" not in config:
        config += f'\n[log]\nfile = "{folder / "log.json"}"\n'
    if "[record]" not in config:
        config += '\n[record]\ncontent = "off"\n'  # the default is a file in this user's state folder
    file.write_text(config)
    process = GatewayProcess(load(str(file), environ=environ or {}), config_path=str(file), verbose=False)
    records: list[Record] = []
    over = asyncio.Event()
    process.sinks.insert(0, RecordedRequests(records))
    serving = asyncio.create_task(process.serve())
    try:
        async with asyncio.timeout(WAIT_S):
            while not process.addresses and not serving.done():
                await asyncio.sleep(0.005)
        if serving.done():
            serving.result()
        base = next(a for a in process.addresses if a.startswith("http"))
        client = HttpClient()
        yield Running(process, base, socket, client, records, over)
        await client.aclose()
    finally:
        process.stop()
        await asyncio.wait_for(serving, WAIT_S)


def one(url: str, *, name: str = "up", type: str = "openai", models: str = '["m"]', **more: Any) -> str:
    """A [[providers]] table."""
    rows = "".join(f"{key} = {json.dumps(value)}\n" for key, value in more.items())
    return f'[[providers]]\nname = "{name}"\ntype = "{type}"\nbase_url = "{url}"\nmodels = {models}\n{rows}'
