"""The file for Node's `--import`: `fetch` and OpenAI's client with `unix:` base URLs, against a
running gateway.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from modelplex import client
from tests.gateways import gateway, one
from tests.peers import node, node_modules
from tests.upstreams import chunk, provider, stall, stream

DEMO = '[[providers]]\nname = "demo"\ntype = "demo"\n'
SCRIPT = Path(__file__).with_name("client_node.mjs")
WAIT_S = 40.0
PROXIES: dict[str, str] = dict.fromkeys(["HTTP_PROXY", "http_proxy", "ALL_PROXY"], "http://127.0.0.1:9")
OLDEST = 20


def nodes() -> list[Path]:
    """The node of the tests, and the machine's own, which usually has another version."""
    system = shutil.which("node")
    if system is None:
        return [node()]
    said = subprocess.run([system, "--version"], capture_output=True, text=True, check=True).stdout
    return [node(), Path(system)] if int(said[1:].partition(".")[0]) >= OLDEST else [node()]


async def run(
    url: str,
    act: str,
    *,
    program: Path | None = None,
    by_environment: bool = False,
    environ: Mapping[str, str] = {},
) -> Any:
    """What the script printed. It must write nothing to stderr: no warning, no error."""
    told = json.dumps({"modules": f"{node_modules()}/", "url": url, "act": act})
    arguments = [] if by_environment else ["--import", client.NODE]
    options = {"NODE_OPTIONS": f"--import={client.NODE}"} if by_environment else {}
    process = await asyncio.create_subprocess_exec(
        str(program or node()),
        *arguments,
        str(SCRIPT),
        told,
        env={"PATH": os.environ["PATH"], "CLIENT": client.NODE, **options, **environ},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), WAIT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    assert not errors, errors.decode()
    return json.loads(out)


@pytest.mark.parametrize("program", nodes(), ids=lambda path: path.parts[1])
@pytest.mark.parametrize("tail", ["", "/models/v1", "/v1"])
async def test_openais_client_chats_and_streams_over_a_socket(
    program: Path, tail: str, tmp_path: Path
) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw:
        told = await run(f"unix:{gw.socket}{tail}", "client", program=program, environ=PROXIES)
        assert "Hello" in told["whole"]
        assert told["streamed"] == told["whole"] == told["said"]
        assert "demo" in told["models"]
        assert told["one"] == "demo"


async def test_the_environment_can_load_the_file_and_proxies_are_ignored(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw:
        environ = {**PROXIES, "NODE_USE_ENV_PROXY": "1"}
        told = await run(f"unix://{gw.socket}", "client", by_environment=True, environ=environ)
        assert "Hello" in told["streamed"]


@pytest.mark.parametrize("program", nodes(), ids=lambda path: path.parts[1])
async def test_every_form_of_fetch_sends_the_whole_body(program: Path, tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw:
        told = await run(f"unix:{gw.socket}", "bodies", program=program)
        assert set(told["told"]) == {"string", "bytes", "stream", "url", "request"}
        for name, (status, said, who) in told["told"].items():
            assert (status, who) == (200, "demo"), name
            assert "Hello" in said, name
        assert told["head"] == [200, "", f"unix:{gw.socket}/health"]


async def test_bodies_are_sent_uncompressed_and_with_their_length(tmp_path: Path) -> None:
    heads: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        heads.append(head)
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
        await reader.readexactly(length)
        body = json.dumps({"choices": [{"message": {"content": "Hello"}}]}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    path = str(tmp_path / "m.sock")
    async with await asyncio.start_unix_server(serve, path):
        await run(f"unix:{path}", "bodies")
    assert len(heads) == 6
    for head in heads:
        assert "accept-encoding" not in head
        assert "transfer-encoding" not in head
        assert head.count("\r\nhost: localhost\r\n") == 1
    assert all(head.count("content-length: ") == 1 for head in heads[:5])


async def test_the_error_for_a_missing_or_dead_socket_names_it(tmp_path: Path) -> None:
    url = f"unix:{tmp_path}/gone.sock"
    told = await run(url, "failure")
    assert told["fetched"]["error"]["name"] == "TypeError"
    for said in (told["fetched"]["error"]["message"], told["asked"]["error"]["cause"]["message"]):
        assert f"{tmp_path}/gone.sock" in said
        assert said.endswith("is a socket: the gateway may not be running")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f"{tmp_path}/gone.sock")
    told = await run(url, "failure")
    assert "ECONNREFUSED" in told["fetched"]["error"]["message"]
    assert "the gateway may not be running" in told["fetched"]["error"]["message"]
    told = await run("unix://host/gone.sock", "failure")
    assert "has no host" in told["fetched"]["error"]["message"]


@pytest.mark.parametrize("program", nodes(), ids=lambda path: path.parts[1])
@pytest.mark.parametrize("act", ["cancelled", "left"])
async def test_closing_a_stream_early_ends_the_call(program: Path, act: str, tmp_path: Path) -> None:
    script = stream(chunk({"content": "a"}), end=False, then=stall)
    async with provider(script) as up, gateway(one(up.url), folder=tmp_path) as gw:
        assert await run(f"unix:{gw.socket}", act, program=program) == {"chunks": 1}
        assert (await gw.record()).endpoint == "chat/completions"


async def test_a_response_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    path = str(tmp_path / "m.sock")
    async with await asyncio.start_unix_server(serve, path):
        told = await run(f"unix:{path}", "broken")
    assert told["error"]["name"] == "TypeError"
    assert "the response broke off" in told["error"]["message"]


async def test_the_callers_abort_signal_ends_the_request_with_its_reason(tmp_path: Path) -> None:
    async with provider(stall) as up, gateway(one(up.url), folder=tmp_path) as gw:
        told = json.dumps({"modules": f"{node_modules()}/", "url": f"unix:{gw.socket}", "act": "aborted"})
        process = await asyncio.create_subprocess_exec(
            str(node()),
            "--import",
            client.NODE,
            str(SCRIPT),
            told,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(WAIT_S):
            while not up.seen:
                await asyncio.sleep(0.01)
            out, _ = await process.communicate(b"now\n")
        done = json.loads(out)
        assert done["early"]["error"]["message"] == "of my own"
        assert done["late"]["error"]["message"] == "of my own"
        await gw.record()


async def test_a_second_import_changes_nothing_and_uninstalling_restores() -> None:
    assert await run("unix:/x", "twice") == {"same": True, "restored": True}


def test_the_file_needs_no_package() -> None:
    text = Path(client.NODE).read_text()
    imported = [line.partition('from "')[2][:-2] for line in text.splitlines() if line.startswith("import ")]
    assert imported == ["node:fs"]
    assert text.count("import(") == text.count('import("node:http")') == 1
    assert "require(" not in text
