"""The processes of a sandbox: bridge, supervisor and program."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from modelplex.sandbox.inside import MAX_REPORTS, LimitedReports
from tests.peers import node
from tests.processes import WAIT_S, served
from tests.sandbox.sandboxes import LIST_MODELS, PROGRAMS, Person, allowed, by_either_builder


@pytest.mark.parametrize("way", ["private", "ro", "host"])
@by_either_builder
def test_the_gateway_is_reachable_with_every_view_of_the_files(
    who: Person, way: str, builder: list[str]
) -> None:
    done = who.run("--fs", way, *builder, "--", sys.executable, "-c", LIST_MODELS)
    assert '"demo"' in done.stdout, done.stderr
    assert done.stderr == ""


def test_node_lists_interfaces(me: Person) -> None:
    code = "console.log(Object.keys(require('os').networkInterfaces()))"
    assert me.run("--ro", str(node()), "--", str(node()), "-e", code).stdout == "[ 'lo' ]\n"


def test_all_processes_end_with_the_program_and_with_the_launcher(me: Person) -> None:
    """A file that a forgotten child holds locked is free again; and when the launcher is killed
    nothing stays either, the gateway included.
    """
    code = (
        "import fcntl, os, sys, time\n"
        "held = open('held', 'w'); fcntl.flock(held, 2)\n"
        "if os.fork() == 0:\n  os.setsid(); time.sleep(600)\n"
        "print('up', flush=True)\n"
        "if sys.argv[1] == 'wait': time.sleep(600)"
    )
    assert me.run("--", sys.executable, "-c", code, "end").stdout == "up\n"
    assert _is_free(me.folder / "held")
    popen = subprocess.Popen(
        me.command("run", "--", sys.executable, "-c", code, "wait"),
        cwd=me.folder,
        env=me.environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert popen.stdout is not None
    assert popen.stdout.readline() == "up\n"
    below = _below(popen.pid)
    assert len(below) >= 2
    assert not _is_free(me.folder / "held")
    popen.kill()
    popen.communicate(timeout=WAIT_S)
    deadline = time.monotonic() + WAIT_S
    while not _is_free(me.folder / "held") or any(_runs(pid) for pid in below):
        assert time.monotonic() < deadline, below
        threading.Event().wait(0.02)


def _below(pid: int) -> list[int]:
    found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [deeper for each in found for deeper in _below(each)]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _is_free(path: Path) -> bool:

    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


async def test_the_bridge_does_not_follow_a_link_at_the_gateways_socket(me: Person) -> None:
    """A restart of the gateway removes the mask on its socket; then it stops."""
    config = '[[providers]]\ntype = "demo"'
    prize = me.home / "prize.sock"
    code = (
        "import os, sys, socket\n"
        "sys.stdout.write('up\\n'); sys.stdout.flush(); sys.stdin.readline()\n"
        "name = sys.argv[1]\n"
        "if os.path.lexists(name): os.unlink(name)\n"
        f"os.symlink({str(prize)!r}, name)\n"
        "s = socket.create_connection(('127.0.0.1', 11435), 10); s.settimeout(10)\n"
        "try: print('received', s.recv(5))\n"
        "except OSError: print('received', b'')"
    )
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(prize))
        server.listen()
        server.settimeout(WAIT_S)
        threading.Thread(target=_greet, args=(server,), daemon=True).start()
        async with served(config, folder=me.folder) as gateway:
            name = gateway.socket
            popen = subprocess.Popen(  # noqa: ASYNC220
                me.command("run", "--socket", name, "--", sys.executable, "-c", code, name),
                cwd=me.folder,
                env=me.environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert popen.stdout is not None
            assert popen.stdout.readline() == "up\n"
        async with served(config, folder=me.folder):
            pass
        out, _ = popen.communicate("\n", timeout=WAIT_S)
        assert out == "received b''\n"
        assert Path(name).is_symlink()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(name)
            assert client.recv(5) == b"PRIZE"


def _greet(server: socket.socket) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        client.sendall(b"PRIZE")
        client.close()


async def test_the_gateway_may_be_restarted_while_the_program_runs(me: Person) -> None:
    config = '[[providers]]\ntype = "demo"'
    code = f"{LIST_MODELS}\ninput()\n{LIST_MODELS}"
    async with served(config, folder=me.folder) as gateway:
        popen = subprocess.Popen(  # noqa: ASYNC220
            me.command("run", "--socket", gateway.socket, "--", sys.executable, "-uc", code),
            cwd=me.folder,
            env=me.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert popen.stdout is not None
        assert '"demo"' in popen.stdout.readline()
    async with served(config, folder=me.folder):
        out, _ = popen.communicate("\n", timeout=WAIT_S)
        assert '"demo"' in out


def test_reports_of_the_bridge_are_limited(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tell = LimitedReports()
    for _ in range(MAX_REPORTS * 3):
        tell("refused")
    reports = capsys.readouterr().err.splitlines()
    assert len(reports) == MAX_REPORTS
    assert reports[-1].endswith("further failures are not reported")


def test_arguments_of_any_bytes_and_number_arrive(me: Person) -> None:
    words = [os.fsdecode(b"\xff\xfe"), "two words", "two\nlines", "", "--", *map(str, range(10_000))]
    code = "import os, sys; os.write(1, ascii(sys.argv[1:]).encode())"
    done = me.run("--", sys.executable, "-c", code, *words)
    assert eval(done.stdout) == words


def test_root_needs_no_user_namespace(me: Person) -> None:
    """Where user.max_user_namespaces is 0, root does without one; no other user can run it."""
    if os.geteuid() != 0:
        pytest.skip("for root to try")
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / "without_user_namespaces.py"), *me.command("run", "--check")],
        cwd=me.folder,
        env=me.environ,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    allowed(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "capabilities: none" in done.stdout
