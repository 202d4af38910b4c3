"""Published and allowed ports: each leads to its port, and to no other."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from modelplex.sandbox.errors import CannotRun
from modelplex.sandbox.ports import opened
from modelplex.sandbox.values import PublishedPort
from tests.processes import WAIT_S
from tests.sandbox.sandboxes import Person, allowed, by_either_builder


def answering(server: socket.socket, answer: bytes) -> None:
    with suppress(OSError):
        while True:
            client, _ = server.accept()
            with client:
                client.sendall(answer)


@contextmanager
def servers(*addresses: tuple[str, int]) -> Generator[list[int]]:
    """The ports of servers that answer with their number."""
    made = [socket.create_server(address) for address in addresses]
    for number, server in enumerate(made):
        threading.Thread(target=answering, args=(server, b"%d" % number), daemon=True).start()
    try:
        yield [server.getsockname()[1] for server in made]
    finally:
        for server in made:
            server.shutdown(socket.SHUT_RDWR)
            server.close()


CONNECT = """
import errno, json, socket, sys
found = []
for host, port in json.loads(sys.argv[1]):
    try:
        with socket.create_connection((host, port), 5) as sock:
            found.append(sock.recv(10).decode())
    except OSError as fault:
        found.append(errno.errorcode[fault.errno])
print(json.dumps(found))
"""


@by_either_builder
def test_an_allowed_port_is_the_only_one(who: Person, builder: list[str]) -> None:
    with servers(("127.0.0.1", 0), ("127.0.0.1", 0), ("127.0.0.2", 0)) as (one, other, third):
        places = [["127.0.0.1", one], ["127.0.0.1", other], ["127.0.0.2", third], ["127.0.0.2", one]]
        words = [sys.executable, "-c", CONNECT, json.dumps(places)]
        done = who.run("--allow-port", str(one), *builder, "--", *words)
        assert json.loads(done.stdout) == ["0", *["ECONNREFUSED"] * 3], done.stderr
        assert f"open: the program reaches 127.0.0.1:{one} of this machine\n" in done.stderr
        assert json.loads(who.run("--", *words).stdout) == ["ECONNREFUSED"] * 4


def test_an_allowed_port_without_a_server_closes_the_connection(me: Person) -> None:
    with servers(("127.0.0.1", 0)) as (port,):
        pass
    words = [sys.executable, "-c", CONNECT, json.dumps([["127.0.0.1", port]])]
    done = me.run("--allow-port", str(port), "--", *words)
    assert json.loads(done.stdout) in (["", "ECONNRESET"], [""], ["ECONNRESET"])


SERVE = """
import socket, sys, threading
def serve(host, answer):
    server = socket.create_server((host, int(sys.argv[2])), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    print("up", flush=True)
    while True:
        client, _ = server.accept()
        client.sendall(answer); client.close()
threading.Thread(target=serve, args=(sys.argv[1], b"inside"), daemon=True).start()
input()
"""


@contextmanager
def published(who: Person, host: str, *options: str, port: int = 3000) -> Generator[int]:
    """A server inside. Yields the port of the host."""
    popen = subprocess.Popen(
        who.command(
            "run", "--publish", "0:3000", *options, "--", sys.executable, "-c", SERVE, host, str(port)
        ),
        cwd=who.folder,
        env=who.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert popen.stdout is not None
    assert popen.stderr is not None
    assert popen.stdin is not None
    try:
        line = ""
        while "open: http://127.0.0.1:" not in line:
            line = popen.stderr.readline()
            allowed(line)
            assert line, "no port was opened"
        assert popen.stdout.readline() == "up\n"
        yield int(line.split("127.0.0.1:")[1].split()[0])
    finally:
        popen.communicate("\n", timeout=WAIT_S)


def received(port: int, host: str = "127.0.0.1") -> bytes:
    with socket.create_connection((host, port), WAIT_S) as client:
        return client.recv(10)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0"])
def test_a_published_port_is_reached_from_the_host(me: Person, host: str) -> None:
    with published(me, host) as port:
        assert received(port) == b"inside"


def test_a_published_port_reaches_no_other_and_has_no_other_address(who: Person) -> None:
    with published(who, "127.0.0.1", port=3001) as port:
        with suppress(ConnectionResetError):
            assert received(port) == b""
        with pytest.raises(ConnectionRefusedError):
            received(port, "127.0.0.2")


def test_a_port_in_use_is_named(me: Person) -> None:
    with servers(("127.0.0.1", 0)) as (port,):
        done = me.run("--publish", f"{port}:3000", "--", "true")
    assert done.returncode == 1
    assert (
        f"127.0.0.1:{port} cannot be opened here: Address already in use. Choose another: --publish {port + 1}:3000"
        in done.stderr
    )


def test_ports_are_in_the_record(me: Person) -> None:
    chat = (
        "import urllib.request as u, json; u.urlopen(u.Request('http://127.0.0.1:11435/v1/chat/completions',"
        " json.dumps({'model': 'demo', 'messages': [{'role': 'user', 'content': 'Hi'}]}).encode(), {'content-type': 'application/json'})).read()"
    )
    done = me.run("--publish", "0:3000", "--allow-port", "5432", "--", sys.executable, "-c", chat)
    run = done.stderr.split("modelplex show ")[1].split()[0]
    shown = subprocess.run(
        me.command("show", run),
        cwd=me.folder,
        env=me.environ,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    assert "allow-port=5432" in shown.stdout
    assert "publish=0:3000" in shown.stdout


def test_nothing_stays_open(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        with opened([PublishedPort(0, 3000)], [5432], tmp_path, log) as ports:
            ((number, inside),) = ports.published
            assert inside == 3000
            with socket.socket(fileno=number) as listener:
                address = listener.getsockname()
                listener.detach()
            assert ports.allowed == [(5432, str(tmp_path / "ports" / "5432"))]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, WAIT_S)
        with pytest.raises(ConnectionRefusedError), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "ports" / "5432"))
        with servers(("127.0.0.1", 0)) as (port,), pytest.raises(CannotRun, match="in use"):
            opened([PublishedPort(port, 3000)], [], tmp_path, log).__enter__()
