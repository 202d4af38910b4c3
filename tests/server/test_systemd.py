"""Sockets that are passed as systemd passes them."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from modelplex.config import parse, provider_types
from modelplex.server.address import ListenError
from modelplex.server.systemd import passed_sockets
from tests.processes import (
    WAIT_S,
    answers,
    chat,
    command,
    environment_in,
    exchange,
    read_response,
    request,
    until,
)

DEMO = '[[providers]]\ntype = "demo"\n'
START = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "modelplex"])
"""


@pytest.mark.parametrize("workers", [1, 2])
async def test_sockets_that_systemd_has_bound_are_served_until_their_agent_is_gone(
    tmp_path: Path, workers: int
) -> None:
    """One by its address, one by its name alone; started as systemd does: descriptors from 3 on."""
    own, named, file = tmp_path / "own.sock", tmp_path / "named.sock", tmp_path / "config.toml"
    head = f'[server]\nhttp = []\nsocket = "{own}"\nworkers = {workers}\n{DEMO}'
    other = f'[[agents]]\nname = "b"\nsocket = "{tmp_path / "b.sock"}"\n'
    file.write_text(f'{head}{other}[[agents]]\nname = "a"\nsocket = "{tmp_path / "a.sock"}"\n')
    bound: list[socket.socket] = []
    for path in (own, named):
        each = socket.socket(socket.AF_UNIX)
        each.bind(str(path))
        each.listen()
        bound.append(each)
    said = tmp_path / "said"
    environ = environment_in(tmp_path, {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "whatever:a"})
    move = 'exec 3<&$1 4<&$2; exec "$3" -c "$4"'
    numbers = [str(each.fileno()) for each in bound]
    with said.open("wb") as out:
        popen = subprocess.Popen(  # noqa: ASYNC220
            ["/bin/bash", "-c", move, "sh", *numbers, sys.executable, START],
            cwd=tmp_path,
            env=environ,
            stdout=out,
            stderr=out,
            pass_fds=[each.fileno() for each in bound],
        )
    try:
        sent = request("POST", "/v1/chat/completions", chat("demo"))
        for path in (own, named):
            assert read_response(await exchange(str(path), sent)).status == 200, said.read_text()
        await until(lambda: '"started"' in said.read_text(), what="the start")
        assert f"unix:{named}" in said.read_text()
        popen.send_signal(signal.SIGHUP)
        await until(lambda: said.read_text().count('"config reloaded"') == 1, what="the reload")
        assert not (tmp_path / "a.sock").exists()
        assert read_response(await exchange(str(named), sent)).status == 200
        file.write_text(head + other)
        await until(lambda: said.read_text().count('"config reloaded"') == 2, what="the second reload")
        assert read_response(await exchange(str(own), sent)).status == 200
    finally:
        popen.terminate()
        popen.wait(WAIT_S)
        for each in bound:
            each.close()
    # systemd's files are left alone, and it goes on listening.
    assert own.exists()
    assert popen.returncode == 0


def test_a_socket_that_is_no_listener_of_the_config_is_an_error(tmp_path: Path) -> None:
    config = parse(DEMO.encode(), file="c.toml", environ={}, types=provider_types())
    assert passed_sockets(config, {"LISTEN_FDS": "1", "LISTEN_PID": "1"}) == []
    assert passed_sockets(config, {}) == []
    code = (
        "import os, socket\n"
        "from modelplex.config import parse, provider_types\n"
        "from modelplex.server.systemd import passed_sockets\n"
        f"config = parse({DEMO.encode()!r}, file='c', environ={{}}, types=provider_types())\n"
        "one = socket.socket(socket.AF_UNIX); one.bind('x.sock'); one.listen()\n"
        "os.dup2(one.fileno(), 3)\n"
        "try: passed_sockets(config, {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid()), 'LISTEN_FDNAMES': 'odd'})\n"
        "except Exception as error: print(error.sentence)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    assert "'odd'" in done.stdout
    assert "no listener of the config" in done.stdout
    assert ListenError("x").sentence == "x"
    assert not answers(str(tmp_path / "x.sock"))
    assert command("--version")
