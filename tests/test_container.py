"""The documented `docker run` commands, with a root made by the steps of the Dockerfile, called
through a published port.

See tests/container.py. The steps install the locked packages, so the first test needs a package
index, as `docker build` does.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from pathlib import Path

import pytest

from tests.container import CONTAINER, NEEDED, ROOT, WAIT_S, Stage, Wire, build, docker_run, stop, wire

PROGRAMS = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
MISSING = [name for name in NEEDED if shutil.which(name, path=PROGRAMS) is None]
PYTHON = Path(sys.base_prefix, "bin", "python3").resolve()
DEMO = '[[providers]]\ntype = "demo"\n'
CLIENT = """
import http.client, json, sys, time
host, port, *requests = sys.argv[1:]
end = time.monotonic() + 15
while True:
    try:
        http.client.HTTPConnection(host, int(port), timeout=5).connect()
        break
    except OSError as fault:
        if time.monotonic() > end: raise
        time.sleep(0.05)
responses = []
for one in map(json.loads, requests):
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    body = json.dumps(one["body"]) if "body" in one else None
    connection.request("POST" if body else "GET", one["path"], body, {"content-type": "application/json", **one["headers"]})
    response = connection.getresponse()
    responses.append([response.status, response.read().decode()])
print(json.dumps(responses))
"""
CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is for Linux"),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return build((ROOT / "Dockerfile").read_text(), folder=tmp_path_factory.mktemp("image"), python=PYTHON)


@pytest.fixture
def net() -> Generator[Wire]:
    with wire() as made:
        yield made


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(DEMO)
    return file


def ask(net: Wire, port: int, *requests: Mapping[str, object]) -> list[tuple[int, str]]:
    rows = [json.dumps({"headers": {}, **one}) for one in requests]
    return [(status, text) for status, text in json.loads(net.client(CLIENT, CONTAINER, str(port), *rows))]


def log_until(log: Path, process: subprocess.Popen[bytes], word: str) -> str:
    """Its log, once it contains this word or the process has ended."""
    end = time.monotonic() + WAIT_S
    while word not in log.read_text() and process.poll() is None:
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.02)
    return log.read_text()


def test_a_published_port_reaches_the_default_address(
    image: Stage, net: Wire, config: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with docker_run(image, volumes={config: "/config.toml"}, log=log, python=PYTHON, net=net) as running:
        chat, listed = ask(
            net, 11435, {"path": "/models/v1/chat/completions", "body": CHAT}, {"path": "/models/v1/models"}
        )
        assert chat[0] == 200, chat
        assert "Modelplex's" in chat[1]
        assert '"demo"' in listed[1]
        assert stop(running) == 0, log.read_text()


def test_a_published_port_reaches_the_port_of_an_option(
    image: Stage, net: Wire, config: Path, tmp_path: Path
) -> None:
    with docker_run(
        image,
        "--http",
        ":8080",
        volumes={config: "/config.toml"},
        log=tmp_path / "log",
        python=PYTHON,
        net=net,
    ):
        ((status, _),) = ask(net, 8080, {"path": "/models/v1/chat/completions", "body": CHAT})
        assert status == 200


def test_a_published_port_accepts_its_names_and_no_other(
    image: Stage, net: Wire, config: Path, tmp_path: Path
) -> None:
    good = [
        "localhost:11435",
        "127.0.0.1:8000",
        "192.168.1.7:11435",
        f"{CONTAINER}:11435",
        "modelplex:11435",
        "nas",
    ]
    bad = ["evil.example:11435", "evil.example", "nas.evil.example", "a..b", "-"]
    with docker_run(image, volumes={config: "/config.toml"}, log=tmp_path / "log", python=PYTHON, net=net):
        requests = [{"path": "/models/v1/models", "headers": {"host": host}} for host in good + bad]
        page = {"path": "/models/v1/models", "headers": {"origin": "http://nas"}}
        statuses = [status for status, _ in ask(net, 11435, *requests, page)]
    assert statuses == [200] * len(good) + [421] * len(bad) + [403]


def test_status_and_metrics_need_the_token_through_a_published_port(
    image: Stage, net: Wire, config: Path, tmp_path: Path
) -> None:
    views = [{"path": f"/_internal/{name}"} for name in ("status", "config", "metrics", "agents")]
    with docker_run(image, volumes={config: "/config.toml"}, log=tmp_path / "log", python=PYTHON, net=net):
        responses = ask(net, 11435, *views)
        assert [status for status, _ in responses] == [403] * 4
        assert "internal_token" in responses[0][1]
    config.write_text(f'[server]\ninternal_token = "of-the-test"\n{DEMO}')
    with docker_run(image, volumes={config: "/config.toml"}, log=tmp_path / "log", python=PYTHON, net=net):
        right, wrong = ({"authorization": f"Bearer {word}"} for word in ("of-the-test", "other"))
        rows = [{**views[0], "headers": headers} for headers in (right, wrong, {})]
        assert [status for status, _ in ask(net, 11435, *rows)] == [200, 401, 401]


def test_a_socket_in_a_volume_is_reachable_from_outside(image: Stage, config: Path, tmp_path: Path) -> None:
    shared, log = tmp_path / "shared", tmp_path / "log"
    shared.mkdir()
    os.chown(shared, 1234, 1234)
    with docker_run(
        image,
        "--socket",
        "/socket/modelplex.socket",
        volumes={config: "/config.toml", shared: "/socket"},
        log=log,
        python=PYTHON,
        user="1234:1234",
    ) as running:
        assert '"started"' in log_until(log, running, '"started"')
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(WAIT_S)
            client.connect(str(shared / "modelplex.socket"))
            client.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("owner", [(1234, 1235), (0, 0)], ids=["the folder is a user's", "Docker made it"])
def test_a_socket_without_a_user_option(
    image: Stage, config: Path, tmp_path: Path, owner: tuple[int, int]
) -> None:
    """The process changes to the owner of the folder; where that is root, to the image's user,
    which becomes the owner.
    """
    shared, log = tmp_path / "shared", tmp_path / "log"
    shared.mkdir()
    os.chown(shared, *owner)
    arguments = ("--socket", "/socket/modelplex.socket")
    volumes = {config: "/config.toml", shared: "/socket"}
    with docker_run(image, *arguments, volumes=volumes, log=log, python=PYTHON) as running:
        assert '"started"' in log_until(log, running, '"started"')
        made = (shared / "modelplex.socket").stat()
        assert (made.st_uid, made.st_gid) == (owner if owner[0] else (10001, 10001))
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(WAIT_S)
            client.connect(str(shared / "modelplex.socket"))
            client.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
        assert stop(running) == 0, log.read_text()


def test_a_socket_of_the_config_decides_the_user_too(image: Stage, config: Path, tmp_path: Path) -> None:
    shared, log = tmp_path / "shared", tmp_path / "log"
    shared.mkdir()
    os.chown(shared, 1234, 1235)
    config.write_text(f'[server]\nsocket = "/socket/modelplex.socket"\n{DEMO}')
    with docker_run(
        image, volumes={config: "/config.toml", shared: "/socket"}, log=log, python=PYTHON
    ) as running:
        assert '"started"' in log_until(log, running, '"started"')
        assert (shared / "modelplex.socket").stat().st_uid == 1234


def test_a_port_is_served_by_the_images_user(image: Stage, config: Path, tmp_path: Path, net: Wire) -> None:
    with docker_run(image, volumes={config: "/config.toml"}, log=tmp_path / "log", python=PYTHON, net=net):
        ask(net, 11435, {"path": "/health"})
        users = {
            line.split()[1]
            for process in Path("/proc").glob("[0-9]*")
            if b"/opt/modelplex/bin" in read(process / "cmdline")
            for line in read(process / "status").decode().splitlines()
            if line.startswith("Uid:")
        }
    assert users == {"10001"}


def read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # it has ended
        return b""


def test_a_folder_of_another_user_is_rejected_with_a_remedy(
    image: Stage, config: Path, tmp_path: Path
) -> None:
    shared, log = tmp_path / "shared", tmp_path / "log"
    shared.mkdir()
    os.chown(shared, 1234, 1235)
    arguments = ("--socket", "/socket/modelplex.socket")
    volumes = {config: "/config.toml", shared: "/socket"}
    with docker_run(image, *arguments, volumes=volumes, log=log, python=PYTHON, user="4321:4321") as running:
        assert running.wait(WAIT_S) == 1
    assert "the user 4321 may not write into /socket, which belongs to the user 1234" in log.read_text()
    assert "docker run --user 1234:1235" in log.read_text()


def test_an_unreadable_config_is_reported_with_both_users(
    image: Stage, net: Wire, config: Path, tmp_path: Path
) -> None:
    config.chmod(0o600)
    log = tmp_path / "log"
    with docker_run(image, volumes={config: "/config.toml"}, log=log, python=PYTHON, net=net) as running:
        assert running.wait(WAIT_S) == 2
    assert "belongs to the user 0, and this process runs as the user 10001" in log.read_text()


def test_without_a_config_it_serves_the_demo(image: Stage, net: Wire, tmp_path: Path) -> None:
    with docker_run(image, volumes={}, log=tmp_path / "log", python=PYTHON, net=net):
        ((status, _),) = ask(net, 11435, {"path": "/models/v1/chat/completions", "body": CHAT})
        assert status == 200
