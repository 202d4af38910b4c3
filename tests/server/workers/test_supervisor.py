"""Several workers as their owner meets them: processes, sockets, signals, and one log."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.gateways import one
from tests.processes import (
    CHAT,
    WAIT_S,
    Gateway,
    answers,
    chat,
    connect,
    names,
    ports_of,
    read_response,
    request,
    run,
    served,
    until,
)
from tests.upstreams import DONE, Act, answer, chat_answer, chat_stream, provider, stream

DEMO = '[[providers]]\ntype = "demo"\n'


def config(folder: Path, *, server: str = "", more: str = DEMO, a: str = "", b: str = "") -> str:
    """Two workers: the socket m.sock and that of agent b belong to the first, that of agent a to
    the second.
    """
    return (
        f'[server]\nworkers = 2\nstate_folder = "{folder / "state"}"\n{server}\n{more}\n'
        f'[[agents]]\nname = "a"\nsocket = "{folder / "a.sock"}"\n{a}\n'
        f'[[agents]]\nname = "b"\nsocket = "{folder / "b.sock"}"\n{b}\n'
    )


async def status(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = (await gateway.ask("GET", "/_internal/status")).json
    return found


async def pids(gateway: Gateway) -> dict[int, int]:
    """The process of each worker."""
    return {row["worker"]: row["pid"] for row in (await status(gateway))["workers"]}


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def events(gateway: Gateway) -> list[str]:
    return [line["event"] for line in gateway.lines() if line["event"] != "call"]


class HeldStream:
    """A provider's stream that ends when `gate` is set."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    def act(self) -> Act:
        async def wait(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.gate.wait()
            writer.write(b"%x\r\n%s\r\n" % (len(DONE), DONE))

        return stream(*chat_stream("first")[:-1], then=wait)

    async def begin(self, path: str) -> asyncio.Task[bytes]:
        """Send the request, read until the first word, and go on reading."""
        reader, writer = await connect(path)
        writer.write(request("POST", CHAT, chat(stream=True)))
        async with asyncio.timeout(WAIT_S):
            got = await reader.readuntil(b'"first"')

        async def rest() -> bytes:
            try:
                async with asyncio.timeout(WAIT_S):
                    return got + await reader.read(-1)
            finally:
                writer.close()

        return asyncio.create_task(rest())


# --- serving


async def test_each_socket_belongs_to_one_worker_and_any_worker_answers_for_all(tmp_path: Path) -> None:
    async with served(config(tmp_path), folder=tmp_path) as gateway:
        for name in ("a", "b", "m"):
            assert (await gateway.chat("demo", at=str(tmp_path / f"{name}.sock"))).status == 200
        found = await status(gateway)
        of_worker = {
            row["worker"]: {each.rpartition("/")[2] for each in row["listeners"]} for row in found["workers"]
        }
        assert of_worker[1] >= {"m.sock", "b.sock"}
        assert of_worker[2] >= {"a.sock"}
        assert not of_worker[2] & {"m.sock", "b.sock"}
        assert len(found["listeners"]) == 4
        agents = (await gateway.ask("GET", "/_internal/agents")).json["agents"]
        assert {(row["agent"], row["worker"], row["last_minute"]["requests"]) for row in agents} == {
            ("a", 2, 1),
            ("b", 1, 1),
        }
        assert await gateway.metric("modelplex_requests_total", labels='listener="unix"') == 3
        for number, count in ((1, 2), (2, 1)):
            assert await gateway.metric("modelplex_requests_total", labels=f'worker="{number}"') >= count
            assert await gateway.metric("modelplex_worker_up", labels=f'worker="{number}"') == 1
        health = (await gateway.ask("GET", "/health?detail", at=str(tmp_path / "a.sock"))).json
        assert [row["state"] for row in health["workers"]] == ["ok", "ok"]
        started = await gateway.line("started")
        assert len(started["workers"]) == 2
        assert events(gateway) == ["started"]
    assert gateway.popen.returncode == 0
    assert not {name for name in names(tmp_path) if "sock" in name}
    with closing(sqlite3.connect(tmp_path / "state" / "records.sqlite")) as records:
        assert dict(records.execute("SELECT agent, count(*) FROM calls GROUP BY agent")) == {
            "": 1,
            "a": 1,
            "b": 1,
        }


async def test_http_connections_are_shared_out_among_the_workers(tmp_path: Path) -> None:
    async with served(config(tmp_path), folder=tmp_path) as gateway:

        async def served_by(number: int) -> float:
            return await gateway.metric("modelplex_requests_total", labels=f'worker="{number}"')

        async with asyncio.timeout(WAIT_S):
            while not (await served_by(1) and await served_by(2)):
                assert (await gateway.chat("demo")).status == 200


async def test_an_agents_rate_holds_over_its_socket_and_over_http(tmp_path: Path) -> None:
    """With its token it is served by the worker of its socket."""
    text = config(tmp_path, a='token = "a-long-enough-token"\nrate = { requests = 5 }')
    async with served(text, folder=tmp_path) as gateway:
        data, headers = chat("demo"), ["authorization: Bearer a-long-enough-token"]
        done = await asyncio.gather(
            *(gateway.ask("POST", CHAT, data, headers=headers) for _ in range(6)),
            *(gateway.ask("POST", CHAT, data, at=str(tmp_path / "a.sock")) for _ in range(6)),
        )
        assert Counter(each.status for each in done) == {200: 5, 429: 7}


async def test_a_worker_that_does_not_answer_is_named(tmp_path: Path) -> None:
    # With a token HTTP belongs to the first worker, so that the second can be stopped.
    text = config(tmp_path, b='token = "a-long-enough-token"')
    async with served(text, folder=tmp_path) as gateway:
        stopped = (await pids(gateway))[2]
        os.kill(stopped, signal.SIGSTOP)
        try:
            found, metrics = await asyncio.gather(status(gateway), gateway.ask("GET", "/_internal/metrics"))
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert [row["state"] for row in found["workers"]] == ["ok", "no answer"]
        assert b'modelplex_worker_up{worker="2"} 0.0' in metrics.body
        assert b'modelplex_worker_up{worker="1"} 1.0' in metrics.body


async def test_lines_of_several_workers_are_not_cut_in_a_pipe(tmp_path: Path) -> None:
    """Lines that a pipe does not take at once, of workers that wait until it is read."""
    reading, writing = os.pipe()
    read: list[bytes] = []

    def drain() -> None:
        while data := os.read(reading, 4096):
            read.append(data)

    text = config(tmp_path, more=DEMO + "[log]\nbodies = true\n")
    reader = threading.Thread(target=drain)
    async with served(text, "--verbose", folder=tmp_path, stderr=writing) as gateway:
        os.close(writing)
        for number in range(8):
            for name in ("a", "b"):
                got = await gateway.chat("demo", text=str(number) * 20_000, at=str(tmp_path / f"{name}.sock"))
                assert got.status == 200
        reader.start()
    await asyncio.to_thread(reader.join, WAIT_S)
    os.close(reading)
    rows = [json.loads(line) for line in b"".join(read).splitlines()]
    assert sum(row["event"] == "call" for row in rows) == 16


# --- a worker is killed


async def test_a_killed_workers_sockets_are_taken_over_and_others_are_not_disturbed(tmp_path: Path) -> None:
    held, path = HeldStream(), str(tmp_path / "a.sock")
    async with provider(held.act(), answer(chat_answer("again"))) as up:
        async with served(config(tmp_path, more=one(up.url)), folder=tmp_path) as gateway:
            running = await held.begin(str(tmp_path / "b.sock"))
            before = await pids(gateway)
            os.kill(before[2], signal.SIGKILL)
            # At once: the connection waits in the backlog of the socket.
            got = await gateway.chat(at=path)
            assert (got.status, got.json["choices"][0]["message"]["content"]) == (200, "again")
            ended, replaced = (
                await gateway.line("a worker ended"),
                await gateway.line("a worker was replaced"),
            )
            assert (ended["worker"], ended["pid"], ended["reason"]) == (2, before[2], "signal SIGKILL")
            assert (ended["restart_in_seconds"], replaced["worker"]) == (0, 2)
            now = await pids(gateway)
            assert now == {1: before[1], 2: replaced["pid"]}
            held.gate.set()
            got = read_response(await running)
            assert got.whole
            assert got.body.endswith(DONE)


async def test_what_an_agent_spent_outlives_its_worker(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    async with provider(*[answer(chat_answer())] * 9) as up:
        text = config(
            tmp_path, more=one(up.url), a="budget = { tokens = 1000 }", b='token = "a-long-enough-token"'
        )
        async with served(text, folder=tmp_path) as gateway:

            async def agent_a() -> dict[str, Any]:
                rows = (await gateway.ask("GET", "/_internal/agents")).json
                found: dict[str, Any] = {**rows["agents"][0], "ledger": rows["ledger"]}
                return found

            for _ in range(3):
                assert (await gateway.chat(at=path)).status == 200
            async with asyncio.timeout(WAIT_S):
                while (spent := await agent_a())["ledger"]["waiting"]:
                    await asyncio.sleep(0.01)
            assert spent["spent"]["requests"] == 3
            os.kill((await pids(gateway))[2], signal.SIGKILL)
            assert (await gateway.chat(at=path)).status == 200
            assert (await agent_a())["spent"]["requests"] == 4
            assert (await agent_a())["spent"]["tokens"] > spent["spent"]["tokens"]


async def test_a_crash_loop_backs_off(tmp_path: Path) -> None:
    text = config(tmp_path, b='token = "a-long-enough-token"')
    async with served(text, folder=tmp_path) as gateway:

        def ends() -> list[dict[str, Any]]:
            return [line for line in gateway.lines() if line["event"] == "a worker ended"]

        def count(number: int) -> bool:
            return len(ends()) == number

        for number in range(1, 4):
            # Its socket answers again once it was replaced.
            assert (await gateway.chat("demo", at=str(tmp_path / "a.sock"))).status == 200
            os.kill((await pids(gateway))[2], signal.SIGKILL)
            await until(partial(count, number), what="its end")
        assert [(line["in_a_row"], line["restart_in_seconds"]) for line in ends()] == [
            (1, 0),
            (2, 0.5),
            (3, 1),
        ]
        # Meanwhile the others serve, and say which one does not run.
        assert (await gateway.chat("demo", at=str(tmp_path / "b.sock"))).status == 200
        assert (await status(gateway))["workers"][1] == {"worker": 2, "state": "no answer"}


# --- reload


async def test_a_reload_reaches_all_workers_and_is_reported_once(tmp_path: Path) -> None:
    async with served(config(tmp_path), folder=tmp_path) as gateway:
        sockets = [str(tmp_path / f"{name}.sock") for name in ("a", "b")]
        file = tmp_path / "config.toml"
        valid = file.read_text()
        file.write_text(valid + '[aliases]\nother = ["demo"]\n')
        gateway.signal(signal.SIGHUP)
        await gateway.line("config reloaded")
        assert [(await gateway.chat("other", at=path)).status for path in sockets] == [200, 200]
        file.write_text(valid + "[server2]\n")
        gateway.signal(signal.SIGHUP)
        refused = await gateway.line("reload refused, the old config stays")
        assert "server2" in refused["faults"][0]
        assert [(await gateway.chat("other", at=path)).status for path in sockets] == [200, 200]
        # A replaced worker has the config that the others use, not the invalid one.
        os.kill((await pids(gateway))[2], signal.SIGKILL)
        assert (await gateway.chat("other", at=sockets[0])).status == 200
        # HTTP is served by both: a token's limits would be counted twice.
        file.write_text(valid.replace('name = "b"', 'name = "b"\ntoken = "a-long-enough-token"'))
        gateway.signal(signal.SIGHUP)
        refused = await gateway.line("reload refused, it needs a restart")
        assert "'b' has a token" in refused["reason"]
        assert Counter(events(gateway))["config reloaded"] == 1


# --- stop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_running_streams_finish(tmp_path: Path, number: signal.Signals) -> None:
    held = HeldStream()
    async with provider(held.act(), held.act()) as up:
        async with served(config(tmp_path, more=one(up.url)), folder=tmp_path) as gateway:
            running = [await held.begin(str(tmp_path / f"{name}.sock")) for name in ("a", "b")]
            workers = (await pids(gateway)).values()
            # As a terminal does for Ctrl-C, and a service manager for all processes of a service.
            for pid in (gateway.pid, *workers):
                os.kill(pid, number)
            await until(lambda: not (tmp_path / "a.sock").exists(), what="the removal of the sockets")
            await until(lambda: not answers(gateway.address), what="the end of accepting")
            held.gate.set()
            for task in running:
                got = read_response(await task)
                assert got.whole
                assert got.body.endswith(DONE)
            assert await gateway.exit() == 0
            assert events(gateway) == ["started", "stopping", "stopped"]
            assert not any(map(is_running, workers))


async def test_a_second_signal_ends_the_drain(tmp_path: Path) -> None:
    held = HeldStream()
    async with provider(held.act()) as up:
        text = config(tmp_path, server="drain_timeout = 600", more=one(up.url))
        async with served(text, folder=tmp_path) as gateway:
            running = await held.begin(str(tmp_path / "a.sock"))
            gateway.signal(signal.SIGTERM)
            await gateway.line("stopping")
            gateway.signal(signal.SIGTERM)
            got = read_response(await running)
            assert b'"code":"shutting_down"' in got.body
            assert await gateway.exit() == 0


async def test_workers_end_with_a_killed_supervisor_and_its_sockets_can_be_used_again(tmp_path: Path) -> None:
    held = HeldStream()
    async with provider(held.act()) as up:
        async with served(config(tmp_path, more=one(up.url)), folder=tmp_path) as gateway:
            running = await held.begin(str(tmp_path / "a.sock"))
            workers = await pids(gateway)
            gateway.signal(signal.SIGKILL)
            assert await gateway.exit() == -signal.SIGKILL
            await until(lambda: not is_running(workers[1]), what="the end of the idle worker")
            # The other one drains, and accepts no more.
            await until(lambda: not answers(str(tmp_path / "a.sock")), what="the end of accepting")
            held.gate.set()
            assert read_response(await running).body.endswith(DONE)
            await until(lambda: not is_running(workers[2]), what="the end of the other worker")
    async with served(config(tmp_path), folder=tmp_path) as second:
        assert (await second.chat("demo", at=str(tmp_path / "a.sock"))).status == 200


# --- start


async def test_a_second_start_is_refused_and_names_the_supervisor(tmp_path: Path) -> None:
    async with served(config(tmp_path), folder=tmp_path) as gateway:
        port = gateway.address[1]
        again = run("--http", f"127.0.0.1:{port}", folder=tmp_path)
        assert again.returncode == 1
        assert f"127.0.0.1:{port} is in use by another process" in again.stderr
        again = run("--http", "127.0.0.1:0", "--socket", "m.sock", folder=tmp_path)
        assert again.returncode == 1
        assert again.stderr.endswith(f"m.sock is in use by process {gateway.pid} (uid {os.getuid()}).\n")
        assert (await gateway.chat("demo", at=gateway.socket)).status == 200


def test_a_worker_that_cannot_start_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("not a folder")
    text = config(
        tmp_path,
        server=f'http = "127.0.0.1:0"\nsocket = "{tmp_path / "m.sock"}"',
        a="budget = { tokens = 1 }",
    )
    (tmp_path / "config.toml").write_text(text)
    done = run(folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("modelplex: what agents spent cannot be kept in ")
    assert done.stderr.count("\n") == 1
    assert names(tmp_path) == ["config.toml", "state"]


async def test_with_one_listener_there_is_one_process(tmp_path: Path) -> None:
    text = f'[server]\nworkers = 4\nsocket = "{tmp_path / "m.sock"}"\nhttp = []\n{DEMO}'
    async with served(text, folder=tmp_path) as gateway:
        assert (await gateway.chat("demo", at=gateway.socket)).status == 200
        # It is the launcher of a gateway that is confined: it has no children of its own.
        (child,) = Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split()
        assert Path(f"/proc/{child}/task/{child}/children").read_text() == ""
        assert ports_of(int(child)) == []
