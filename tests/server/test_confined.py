"""A gateway that is confined, as a process: its threads, its sockets, its config and its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from modelplex.confinement import system_calls
from modelplex.confinement.confine import CAPABILITIES
from modelplex.confinement.messages import (
    BindSocket,
    CheckSocket,
    LauncherRefused,
    LockSocket,
    RenameSocket,
    SocketBound,
    UnlinkSocket,
)
from modelplex.server.address import ListenError
from modelplex.server.confined import SocketMaker
from modelplex.server.socket_file import LocalSockets
from tests.processes import Gateway, served, until
from tests.upstreams import answer, chat_answer, provider

DEMO = '[[providers]]\ntype = "demo"\n'

pytestmark = pytest.mark.skipif(
    system_calls.landlock_version() < 6,
    reason="this kernel has no Landlock with rules for signals (Linux 6.12)",
)


def threads_of(gateway: Gateway) -> list[dict[str, str]]:
    """The lines of /proc/PID/task/*/status."""
    found: list[dict[str, str]] = []
    for file in Path(f"/proc/{gateway.pid}/task").glob("*/status"):
        lines = (line.partition(":") for line in file.read_text().splitlines())
        found.append({name: value.strip() for name, _, value in lines})
    return found


async def test_each_thread_of_a_gateway_is_confined_and_it_says_so(tmp_path: Path) -> None:
    async with served(DEMO, folder=tmp_path) as gateway:
        threads = threads_of(gateway)
        assert len(threads) > 1
        for each in threads:
            assert int(each["CapEff"], 16) & ~CAPABILITIES == int(each["CapPrm"], 16) & ~CAPABILITIES == 0
            assert (each["NoNewPrivs"], each["Seccomp"], each["Seccomp_filters"]) == ("1", "2", "2")
        status = await gateway.ask("GET", "/_internal/status")
        confinement = json.loads(status.body)["confinement"]
        assert confinement["whole"] is True
        assert confinement["files"].startswith("Landlock ABI ")
        assert (await gateway.line("started"))["confined"] == "whole"


async def test_off_confines_nothing(tmp_path: Path) -> None:
    async with served(f'[server]\nconfine = "off"\n{DEMO}', folder=tmp_path) as gateway:
        assert {each["Seccomp"] for each in threads_of(gateway)} == {"0"}
        assert Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text() == ""


@pytest.mark.parametrize("how", ["at the start", "by the API"])
async def test_a_socket_in_use_names_the_gateway_and_not_its_launcher(tmp_path: Path, how: str) -> None:
    text = f'[server]\nadmin_socket = "{tmp_path}/admin.sock"\nhttp = "127.0.0.1:0"\nsocket = "{tmp_path}/m.sock"\n{DEMO}'
    async with served(text, folder=tmp_path) as gateway:
        path = str(tmp_path / "m.sock")
        if how == "by the API":
            path = str(tmp_path / "new.sock")
            body = json.dumps({"socket": path}).encode()
            put = await gateway.ask("PUT", "/_internal/agents/new", body, at=str(tmp_path / "admin.sock"))
            assert put.status == 200, put.body
        with pytest.raises(ListenError, match=rf"is in use by process {gateway.pid} \("):
            LocalSockets().check_not_live(path)


async def test_after_a_kill_the_launcher_is_gone_and_the_path_is_free(tmp_path: Path) -> None:
    async with served(DEMO, folder=tmp_path) as gateway:
        (launcher,) = Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split()
        gateway.signal(signal.SIGKILL)
        await gateway.exit()
        async with served(DEMO, folder=tmp_path) as second:
            assert (await second.chat("demo", at=second.socket)).status == 200
        await until(lambda: not Path(f"/proc/{launcher}").exists(), what="the end of the launcher")


async def test_a_reload_reads_the_config_and_starts_its_programs(tmp_path: Path) -> None:
    key = f"command:{sys.executable} -c 'print(1)'"
    more = f'[[providers]]\ntype = "openai"\nname = "new"\nbase_url = "http://127.0.0.1:9/v1"\napi_key = "{key}"\n'
    async with served(DEMO, folder=tmp_path) as gateway:
        file = tmp_path / "config.toml"
        new = tmp_path / "new"
        new.write_text(file.read_text() + more)
        new.rename(file)  # as editors do
        gateway.signal(signal.SIGHUP)
        assert "new" in (await gateway.line("config reloaded"))["providers"]
        # The command prints a key. The port is none of the config that it was started with.
        failed = await gateway.line("a provider did not list its models")
        assert "Permission denied" in failed["reason"]
        told = await gateway.line("the new config needs a restart: the gateway is confined to less")
        assert told["needs"] == ["TCP port 9"]


def test_the_launcher_renames_and_removes_what_it_has_made_alone(tmp_path: Path) -> None:
    make, path = SocketMaker(), str(tmp_path / "a.sock")
    _, (lock,) = make(LockSocket(path))
    assert make(LockSocket(path)) == (
        LauncherRefused(f"another process is just starting or stopping on {path} and holds {path}.lock."),
        (),
    )
    bound, (number,) = make(BindSocket(path, 0o600, None))
    assert isinstance(bound, SocketBound)
    other = tmp_path / "other"
    other.write_text("")
    status = other.stat()
    make(UnlinkSocket(str(other), (status.st_dev, status.st_ino)))
    assert other.exists()
    with pytest.raises(PermissionError):
        make(RenameSocket(str(other), path))
    refused, _ = make(RenameSocket(bound.hidden, str(other)))
    assert refused == LauncherRefused(
        f"{other} is a regular file, not a socket; it was left as it is. Choose another path or remove it."
    )
    make(RenameSocket(bound.hidden, path))
    assert Path(path).is_socket()
    assert make(CheckSocket(path))[0] == LauncherRefused(
        f"{path} is in use by process {os.getpid()} (uid {os.getuid()})."
    )
    make(UnlinkSocket(path, bound.identity))
    assert not Path(path).exists()
    for each in (lock, number):
        os.close(each)


def test_the_launcher_replaces_no_socket_of_another_program(tmp_path: Path) -> None:
    make = SocketMaker()
    bound, (number,) = make(BindSocket(str(tmp_path / "a.sock"), 0o600, None))
    assert isinstance(bound, SocketBound)
    with socket.socket(socket.AF_UNIX) as docker:
        docker.bind(str(tmp_path / "docker.sock"))
        docker.listen()
        refused, _ = make(RenameSocket(bound.hidden, str(tmp_path / "docker.sock")))
        assert isinstance(refused, LauncherRefused)
        assert "is in use by" in refused.sentence
    (tmp_path / "folder").mkdir()
    with pytest.raises(PermissionError):
        make(RenameSocket(bound.hidden, str(tmp_path / "folder" / "a.sock")))
    os.close(number)


def test_a_lock_holds_nothing_and_becomes_nothing(tmp_path: Path) -> None:
    """By its descriptor the gateway could write a file, and by a rename give it any name."""
    make = SocketMaker()
    _, (lock,) = make(LockSocket(str(tmp_path / "cron")))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(lock, b"* * * * * root id")
    with pytest.raises(PermissionError):
        make(RenameSocket(str(tmp_path / "cron.lock"), str(tmp_path / "cron")))
    os.close(lock)
    (tmp_path / "uv.lock").write_text("of another program")
    file = tmp_path / "uv.lock"
    assert make(LockSocket(str(tmp_path / "uv"))) == (
        LauncherRefused(f"{file} is not empty, so it cannot serve as a lock."),
        (),
    )


async def test_a_key_of_systemds_load_credential_is_read_by_a_confined_gateway(tmp_path: Path) -> None:
    folder = tmp_path / "credentials" / "modelplex.service"
    folder.mkdir(parents=True)
    for name, value in (("openai", "sk-of-systemd"), ("admin", "a-token-of-systemd")):
        (folder / name).write_text(value + "\n")
        (folder / name).chmod(0o400)
    folder.chmod(0o500)
    async with provider(answer(chat_answer())) as up:
        config = (
            f'[server]\n[[server.admins]]\nname = "ops"\ntoken = "file:${{CREDENTIALS_DIRECTORY}}/admin"\nmay = ["read"]\n'
            f'[[providers]]\nname = "up"\ntype = "openai"\nbase_url = "{up.url}"\nmodels = ["m"]\n'
            f'api_key = "file:${{CREDENTIALS_DIRECTORY}}/openai"\n'
        )
        async with served(config, folder=tmp_path, environ={"CREDENTIALS_DIRECTORY": str(folder)}) as gateway:
            assert (await gateway.chat()).status == 200
            assert up.seen[-1].headers["authorization"] == "Bearer sk-of-systemd"
            status = await gateway.ask(
                "GET", "/_internal/status", headers=["authorization: Bearer a-token-of-systemd"]
            )
            assert json.loads(status.body)["confinement"]["whole"] is True
            assert (await gateway.ask("GET", "/_internal/status")).status == 401
            assert "of-systemd" not in gateway.said.read_text()
    folder.chmod(0o700)
