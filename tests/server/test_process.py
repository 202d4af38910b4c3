"""The process: start, signals, log and output, and what it must never show."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable
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
    command,
    connect,
    environment,
    exchange,
    free_port,
    json_lines,
    names,
    ports_of,
    read_response,
    request,
    run,
    served,
    until,
)
from tests.upstreams import Act, answer, chat_stream, provider, raw, stream

DEMO = '[[providers]]\ntype = "demo"\n'


class Held:
    """A stream that sends its first word, waits for `gate`, and sends the rest; and its reader."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        first, *rest = chat_stream("first", "last")[1:]
        self._first = [chat_stream()[0], first]
        self._rest = rest

    def act(self) -> Act:
        async def wait(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.gate.wait()
            for piece in self._rest:
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))

        return stream(*self._first, then=wait)

    async def begin(self, gateway: Gateway) -> Callable[[], Awaitable[bytes]]:
        """Send the request and read until the first word. The returned function reads the rest."""
        reader, writer = await connect(gateway.socket)
        writer.write(request("POST", CHAT, chat(stream=True)))
        async with asyncio.timeout(WAIT_S):
            got = await reader.readuntil(b'"first"')

        async def rest() -> bytes:
            async with asyncio.timeout(WAIT_S):
                more = await reader.read(-1)
            writer.close()
            return got + more

        return rest


# --- start


async def test_without_a_config_it_serves_the_demo_and_says_what_it_detected(tmp_path: Path) -> None:
    async with served(None, "--http", "127.0.0.1:0", folder=tmp_path) as gateway:
        got = await gateway.chat("demo")
        assert got.status == 200
        assert "demo" in got.json["choices"][0]["message"]["content"]
        started = await gateway.line("started")
        assert started["providers"] == ["demo"]
        assert started["listeners"] == [f"http://127.0.0.1:{gateway.address[1]}"]
        output = gateway.said.read_text()
        assert output.startswith(
            "modelplex: there is no config.toml here, so it serves what it detects:\n  demo: "
        )
        assert names(tmp_path) == ["said"]
    assert gateway.popen.returncode == 0


def test_a_key_in_the_environment_is_found_and_not_shown(tmp_path: Path) -> None:
    done = run("check", folder=tmp_path, environ={"OPENAI_API_KEY": "sk-distinctive-1"})
    assert done.returncode == 0
    assert "openai: its key is in OPENAI_API_KEY" in done.stderr
    assert "openai (openai) at https://api.openai.com/v1: priority 1, 1 key" in done.stdout
    assert "distinctive" not in done.stdout + done.stderr


def test_an_invalid_config_reports_every_error_and_binds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.sock"
    (tmp_path / "config.toml").write_text(
        f'[server]\nsocket = "{path}"\nlog_levle = "info"\nmax_connections = 0\n'
        '[[providers]]\ntype = "opnai"\napi_key = "${NOT_SET}"\n'
    )
    done = run(folder=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    for expected in (
        "config.toml:3: ",
        "log_level",
        "config.toml:4: ",
        "config.toml:6: ",
        "opnai",
        "NOT_SET",
    ):
        assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert names(tmp_path) == ["config.toml"]


async def test_a_socket_alone_opens_no_port(tmp_path: Path) -> None:
    path = tmp_path / "m.sock"
    (tmp_path / "config.toml").write_text('[server]\nhttp = ":0"\n' + DEMO)
    async with served(None, "--socket", "m.sock", folder=tmp_path) as gateway:
        assert ports_of(gateway.pid) == []
        assert (await gateway.chat("demo", at=str(path))).status == 200
        assert path.stat().st_mode & 0o777 == 0o660
    assert not path.exists()


async def test_http_and_a_socket_are_served_together(tmp_path: Path) -> None:
    path = str(tmp_path / "m.sock")
    async with served(None, "--socket", "m.sock", "--http", "127.0.0.1:0", folder=tmp_path) as gateway:
        await until(lambda: answers(path), what="the socket")
        (port,) = ports_of(gateway.pid)
        assert (await gateway.ask("GET", "/health", at=path)).status == 200
        assert (await gateway.ask("GET", "/health", at=("127.0.0.1", port))).status == 200


async def test_a_second_start_on_the_same_addresses_is_refused_and_does_not_disturb_the_first(
    tmp_path: Path,
) -> None:
    async with served(DEMO, folder=tmp_path) as gateway:
        port = gateway.address[1]
        again = run("--http", f"127.0.0.1:{port}", folder=tmp_path)
        assert (again.returncode, again.stdout) == (1, "")
        assert again.stderr == (
            f"modelplex: 127.0.0.1:{port} is in use by another process; choose another port or stop that process.\n"
        )
        # The port is free and the socket is not, so neither is served.
        free = free_port()
        again = run("--socket", "m.sock", "--http", f"127.0.0.1:{free}", folder=tmp_path)
        assert again.returncode == 1
        assert again.stderr == f"modelplex: m.sock is in use by process {gateway.pid} (uid {os.getuid()}).\n"
        assert not answers(("127.0.0.1", free))
        assert (await gateway.chat("demo")).status == 200
        assert (await gateway.chat("demo", at=gateway.socket)).status == 200


async def test_the_files_of_a_killed_gateway_are_replaced(tmp_path: Path) -> None:
    async with served(DEMO, folder=tmp_path) as first:
        first.signal(signal.SIGKILL)
        assert await first.exit() == -signal.SIGKILL
    left = {name for name in names(tmp_path) if name.startswith("m.sock")}
    assert left == {"m.sock", "m.sock.lock"}
    async with served(DEMO, folder=tmp_path) as second:
        assert (await second.chat("demo", at=second.socket)).status == 200
    assert not {name for name in names(tmp_path) if name.startswith("m.sock")}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--socket", "x" * 120], "and the system's limit is 107"),
        (["--socket", "/proc/m.sock"], "cannot listen on /proc/m.sock"),
        (["--socket", "no/such/folder/m.sock"], "does not exist; create it first"),
        (["--socket", "config.toml"], "is a regular file, not a socket; it was left as it is"),
        (["--http", "192.0.2.1:1"], "192.0.2.1:1 is not an address of this machine"),
        (["--http", "no-such-host.invalid:1"], "the host name is not known"),
    ],
)
def test_an_address_that_cannot_be_listened_on_is_an_error_in_one_line(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    (tmp_path / "config.toml").write_text(DEMO)
    done = run(*arguments, folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence in done.stderr
    assert done.stderr.startswith("modelplex: ")
    assert done.stderr.count("\n") == 1
    assert names(tmp_path) == ["config.toml"]


def test_a_port_of_another_process_is_an_error_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = run("--http", f"127.0.0.1:{other.getsockname()[1]}", folder=tmp_path)
    assert done.returncode == 1
    assert "is in use by another process" in done.stderr
    assert "Traceback" not in done.stderr


# --- signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_the_running_stream_finish_and_accepts_nothing_new(
    tmp_path: Path, number: signal.Signals
) -> None:
    held = Held()
    async with provider(held.act()) as up, served(one(up.url), folder=tmp_path) as gateway:
        rest = await held.begin(gateway)
        gateway.signal(number)
        await until(lambda: not Path(gateway.socket).exists(), what="the removal of the socket")
        await until(lambda: not answers(gateway.address), what="the end of accepting")
        assert gateway.popen.poll() is None
        held.gate.set()
        got = read_response(await rest())
        assert got.whole
        assert b'"last"' in got.body
        assert got.body.endswith(b"data: [DONE]\n\n")
        assert await gateway.exit() == 0
        assert [line["event"] for line in gateway.lines()] == ["started", "stopping", "call", "stopped"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_the_drain(tmp_path: Path, number: signal.Signals) -> None:
    held = Held()
    config = "[server]\ndrain_timeout = 600\n" + one("URL")
    async with provider(held.act()) as up, served(config.replace("URL", up.url), folder=tmp_path) as gateway:
        rest = await held.begin(gateway)
        gateway.signal(number)
        await gateway.line("stopping")
        gateway.signal(number)
        got = read_response(await rest())
        # The caller gets an error, not a normal end.
        assert got.whole
        assert b"[DONE]" not in got.body
        assert b'"code":"shutting_down"' in got.body
        assert await gateway.exit() == 0
        assert not Path(gateway.socket).exists()


async def test_sighup_or_a_changed_file_reloads_the_config_and_an_invalid_one_changes_nothing(
    tmp_path: Path,
) -> None:
    held = Held()
    async with provider(held.act()) as up, served(one(up.url), folder=tmp_path) as gateway:
        file = tmp_path / "config.toml"
        good = file.read_text()
        rest = await held.begin(gateway)

        file.write_text(good + "[[providers]]\ntype = 'no-such'\n")
        gateway.signal(signal.SIGHUP)
        refused = await gateway.line("reload refused, the old config stays")
        assert "no-such" in json.dumps(refused["faults"])
        assert (await gateway.chat("demo")).status == 404

        def reloads() -> int:
            return sum(line["event"] == "config reloaded" for line in gateway.lines())

        # Without a signal: the file is watched.
        file.write_text(good + DEMO)
        await until(lambda: reloads() == 1, what="the reload of a changed file")
        assert (await gateway.chat("demo")).status == 200

        gateway.signal(signal.SIGHUP)
        await until(lambda: reloads() == 2, what="the reload by a signal")
        held.gate.set()
        got = read_response(await rest())
        assert got.whole
        assert b'"last"' in got.body


async def test_sigpipe_is_harmless(tmp_path: Path) -> None:
    async with served(DEMO, folder=tmp_path) as gateway:
        gateway.signal(signal.SIGPIPE)
        for _ in range(20):
            _, writer = await connect(gateway.socket)
            writer.write(request("POST", CHAT, chat("demo", stream=True, text="word " * 1000)))
            writer.transport.abort()
        assert (await gateway.chat("demo")).status == 200


@pytest.mark.parametrize(
    ("limits", "allowed", "warned"),
    [("ulimit -S -n 256", 2 * 700 + 256 + 256, False), ("ulimit -n 600", 600, True)],
)
async def test_the_limit_of_open_files_is_raised_or_a_warning_is_logged(
    tmp_path: Path,
    limits: str,
    allowed: int,
    warned: bool,
) -> None:
    config = "[server]\nmax_connections = 700\n" + DEMO
    async with served(config, folder=tmp_path, through=f'{limits}; exec "$@"') as gateway:
        await gateway.line("started")
        assert (await gateway.ask("GET", "/health")).status == 200
        rows = Path(f"/proc/{gateway.pid}/limits").read_text().splitlines()
        soft = next(row for row in rows if row.startswith("Max open files")).split()[3]
        assert int(soft) == allowed
    events = [line for line in gateway.lines() if "descriptors" in line["event"]]
    assert [(line["needed"], line["allowed"]) for line in events] == ([(1912, 600)] if warned else [])


# --- log and output


async def test_on_a_pipe_every_line_is_json_and_each_call_has_one(tmp_path: Path) -> None:
    async with served(DEMO, folder=tmp_path, stderr=subprocess.PIPE) as gateway:
        for number in range(5):
            await gateway.chat("demo", text=f"two\nlines {number} \x1b[31m")
        await gateway.chat("no\r\nsuch {model}")
    assert gateway.popen.stderr is not None
    with gateway.popen.stderr as pipe:
        lines = [json.loads(row) for row in pipe.read().splitlines()]
    assert [line["event"] for line in lines] == ["started", *["call"] * 6, "stopping", "stopped"]
    assert [line["status"] for line in lines[1:-2]] == [200] * 5 + [404]
    assert len({line["request_id"] for line in lines[1:-2]}) == 6


def _has_line(folder: Path, mark: bytes) -> bool:
    try:
        return any(mark in path.read_bytes() for path in folder.glob("log.json*"))
    except FileNotFoundError:  # it was just rotated
        return False


async def test_a_log_file_rotates_and_keeps_the_configured_number(tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    config = DEMO + f'[log]\nfile = "{log}"\nmax_size = 4000\nkeep = 2\n'
    async with served(config, folder=tmp_path) as gateway:
        for number in range(60):
            answer = await gateway.chat("demo")
            if number % 6 == 0:  # so that the lines come in more than one batch
                mark = answer.headers["x-request-id"].encode()
                await until(lambda: _has_line(tmp_path, mark), what="the line of the call")  # noqa: B023
    files = [name for name in names(tmp_path) if name.startswith("log.json")]
    assert files == ["log.json", "log.json.1", "log.json.2"]
    calls: list[dict[str, Any]] = []
    for name in reversed(files):
        text = (tmp_path / name).read_text()
        lines = json_lines(text)
        assert len(lines) == text.count("\n")
        calls += [line for line in lines if line["event"] == "call"]
    ids = [line["request_id"] for line in calls]
    assert ids == sorted(ids)
    assert gateway.said.read_text().startswith("Page: ")
    assert gateway.said.read_text().count("\n") == 1


async def test_a_full_disk_under_the_log_fails_no_call_and_lost_lines_are_counted(tmp_path: Path) -> None:
    async with served(DEMO + '[log]\nfile = "/dev/full"\n', folder=tmp_path) as gateway:
        await _loses_lines_and_serves_on(gateway)
        output = gateway.said.read_text()
    page, _, rest = output.partition("\n")
    assert page.startswith("Page: ")
    assert rest == (
        "modelplex: the log file /dev/full cannot be written (No space left on device); lines are lost, calls continue\n"
    )


async def test_a_full_disk_under_stderr_fails_no_call_and_lost_lines_are_counted(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:  # noqa: ASYNC230 - it opens at once
        async with served(DEMO, folder=tmp_path, stderr=full) as gateway:
            await _loses_lines_and_serves_on(gateway)
    assert gateway.popen.returncode == 0


async def _loses_lines_and_serves_on(gateway: Gateway) -> None:
    for _ in range(10):
        assert (await gateway.chat("demo")).status == 200
    async with asyncio.timeout(WAIT_S):
        while await gateway.metric("modelplex_log_lines_lost_total") < 10:
            await asyncio.sleep(0.01)
    assert (await gateway.ask("GET", "/_internal/status")).json["log_lines_dropped"] >= 10
    assert (await gateway.chat("demo")).status == 200


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
async def test_closed_standard_streams_fail_no_call(tmp_path: Path, closed: str) -> None:
    async with served(DEMO, folder=tmp_path, through=f'exec "$@" {closed}') as gateway:
        for _ in range(3):
            assert (await gateway.chat("demo")).status == 200
    assert gateway.popen.returncode == 0


async def test_a_closed_log_pipe_fails_no_call(tmp_path: Path) -> None:
    async with served(DEMO, folder=tmp_path, stderr=subprocess.PIPE) as gateway:
        assert gateway.popen.stderr is not None
        gateway.popen.stderr.close()
        await _loses_lines_and_serves_on(gateway)
    assert gateway.popen.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "bodies"), [((), True), (("--verbose",), False), (("--verbose",), True)]
)
async def test_bodies_are_logged_only_with_both_the_config_and_the_option(
    tmp_path: Path,
    arguments: tuple[str, ...],
    bodies: bool,
) -> None:
    config = DEMO + f"[log]\nbodies = {json.dumps(bodies)}\n"
    async with served(config, *arguments, folder=tmp_path) as gateway:
        await gateway.chat("demo", text="quite-private")
        await gateway.line("call")
        shown = "quite-private" in gateway.said.read_text()
    assert shown == (bool(arguments) and bodies)


# --- secrets

KEY = "sk-distinctive/key+1=="
SECOND = "sk-distinctive-key-2"
HEADER = "distinctive-header-value"
TOKEN = "distinctive-token"


def echo(status: int, *, form: str = "json", head: str = "") -> Act:
    """A response whose error repeats the credentials of the request, as debugging proxies do."""
    words = f"bad header 'Authorization: Bearer {KEY}', or Bearer {SECOND}, x-team: {HEADER}"
    document = {"error": {"message": words, "type": "invalid_request_error", "param": KEY, "code": SECOND}}
    body = words.encode() if form == "text" else json.dumps(document).encode()
    return answer(
        body,
        status=status,
        label="text/plain" if form == "text" else "application/json",
        x_request_id=f"id-{KEY}",
        x_ratelimit_limit_requests=HEADER,
        location=f"https://elsewhere.example/?key={KEY}",
    )


def echo_inside(*pieces: bytes) -> Act:
    error = {"error": {"message": f"who is {KEY}?", "type": "server_error", "code": SECOND, "param": None}}
    return stream(*pieces, b"data: " + json.dumps(error).encode() + b"\n\n")


SCRIPTS: dict[str, tuple[Act, bool]] = {
    **{f"status-{status}": (echo(status), False) for status in (302, 400, 401, 403, 404, 422, 429, 500, 503)},
    "text-400": (echo(400, form="text"), False),
    "text-502": (echo(502, form="text"), False),
    "error-in-200": (echo(200), False),
    "stream-labelled-json": (echo(200), True),
    "stream-refused": (echo(400), True),
    "stream-error-first": (echo_inside(), True),
    "stream-error-later": (echo_inside(*chat_stream("Hi")[:2]), True),
    "no-http": (raw(f"Authorization: Bearer {KEY}\r\n\r\n".encode()), False),
    "half-json": (answer(f'{{"error": "Bearer {KEY}'.encode()), False),
}


async def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    secrets = f'api_key = ["{KEY}", "${{SECOND_KEY}}"]\nheaders = {{ x-team = "{HEADER}" }}\n'
    rows = [
        f'name = "{name}"\ntype = "openai"\nbase_url = "URL/{name}"\nmodels = ["{name}"]\n{secrets}'
        for name in SCRIPTS
    ]
    rows += [
        f'name = "{kind}"\ntype = "{kind}"\nbase_url = "URL/{kind}"\nmodels = ["{kind}"]\n{secrets}'
        for kind in ("anthropic", "ollama")
    ]
    rows.append(f'name = "listed"\ntype = "openai"\nbase_url = "URL/listed"\n{secrets}')
    config = (
        f'[server]\ninternal_token = "{TOKEN}"\n[failover]\nretries = 0\nmax_attempts = 2\n[log]\nbodies = true\n'
        + "".join(f"[[providers]]\n{row}" for row in rows)
    )
    output: list[str] = []
    async with provider() as up:

        async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen = up.seen[-1]
            assert KEY in str(seen.headers) or SECOND in str(seen.headers)
            script, _ = SCRIPTS.get(seen.target.split("/")[2], (echo(400), False))
            await script(reader, writer)

        up.scripts = [act]
        config = config.replace("URL", up.url)
        environ = {"SECOND_KEY": SECOND}
        async with served(config, "--verbose", folder=tmp_path, environ=environ) as gateway:
            for name, (_, streamed) in SCRIPTS.items():
                output.append(await _all_of(gateway, CHAT, chat(name, stream=streamed)))
                assert "200 OK" in output[-1].partition("\r\n")[0] or '"error"' in output[-1]
            for kind in ("anthropic", "ollama"):
                output.append(await _all_of(gateway, CHAT, chat(kind)))
                output.append(await _all_of(gateway, CHAT, chat(kind, stream=True)))
            output.append(await _all_of(gateway, "/v1/embeddings", b'{"model":"status-400","input":"x"}'))
            output.append(
                await _all_of(gateway, "/v1/images/generations", b'{"model":"status-500","prompt":"x"}')
            )
            for path in ("config", "status", "metrics"):
                view = await gateway.ask(
                    "GET", f"/_internal/{path}", headers=[f"authorization: Bearer {TOKEN}"]
                )
                assert view.status == 200
                output.append(view.body.decode())
                assert (await gateway.ask("GET", f"/_internal/{path}")).status == 401
            output.append((await gateway.ask("GET", "/health?detail")).body.decode())
            gateway.signal(signal.SIGHUP)
            await gateway.line("config reloaded")
    output.append(gateway.said.read_text())
    assert output[-1].count('"event":"call"') == len(SCRIPTS) + 6
    checked = run("check", folder=tmp_path, environ=environ)
    (tmp_path / "config.toml").write_text(config.replace("retries = 0", 'retries = "x"'))
    faulty = run(folder=tmp_path, environ=environ)
    assert (checked.returncode, faulty.returncode) == (0, 2)
    output += [checked.stdout, checked.stderr, faulty.stdout, faulty.stderr]
    for text in output:
        for secret in (KEY, SECOND, HEADER, TOKEN, "distinctive"):
            assert secret not in text, text[max(0, text.index(secret) - 300) : text.index(secret) + 60]


async def _all_of(gateway: Gateway, path: str, body: bytes) -> str:
    return (await exchange(gateway.socket, request("POST", path, body))).decode()


async def test_it_starts_without_a_home_and_with_an_invalid_locale(tmp_path: Path) -> None:
    environ = {"LC_ALL": "C", "LANG": "xx_YY.nonsense", "PYTHONUTF8": "0", "HOME": ""}
    async with served(DEMO, folder=tmp_path, environ=environ) as gateway:
        got = await gateway.chat("demo", text="Grüße \U0001f600")
        assert got.status == 200
    assert command()[1:] == ["-m", "modelplex"]
    assert environment()["OLLAMA_HOST"].endswith(":1")


@pytest.mark.parametrize("content", [None, b"not a database, and longer than the head of one would be" * 40])
def test_an_unusable_response_store_is_an_error_at_the_start(content: bytes | None, tmp_path: Path) -> None:
    place = tmp_path / "answers"
    if content is None:
        place.mkdir()
    else:
        place.write_bytes(content)
    (tmp_path / "config.toml").write_text(f'[server]\nkeep_responses = "{place}"\n\n{DEMO}')
    done = run("--socket", "m.sock", folder=tmp_path)
    assert done.returncode == 1
    assert f"[server] keep_responses: {place} cannot be used to keep answers" in done.stderr
    assert "Traceback" not in done.stderr
