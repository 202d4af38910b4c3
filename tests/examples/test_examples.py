"""The examples do what they say: bubblewrap and runc are run where they are installed, the files of
the others are read and verified as far as that goes.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.processes import answers, environment, json_lines, served, until

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
INSIDE = Path(__file__).with_name("inside.py")
WAIT_S = 40.0
INTERPRETER = [sys.prefix, str(Path(sys.executable).resolve().parents[1])]
"""What the sandbox needs beside /usr, so that the tests' own Python runs in it."""

SECRETS = {
    "HOSTS_SECRET": "of the host",
    "SSH_AUTH_SOCK": "/run/agent.sock",
    "HTTP_PROXY": "http://proxy.of.the.host:1",
}
"""What the one who starts the sandbox has, and who is inside has not."""
LISTENERS = ("--http", "127.0.0.1:0", "--socket")


def needs(program: str, *trial: str) -> pytest.MarkDecorator:
    """Skip where a program is missing, or cannot do its work here at all."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        return pytest.mark.skip(reason=f"{program} is not installed")
    if trial:
        done = subprocess.run([path, *trial], capture_output=True, text=True, check=False)
        return pytest.mark.skipif(
            done.returncode != 0, reason=f"{program} does not work here: {done.stderr.strip()}"
        )
    return pytest.mark.skipif(False, reason="")


async def through_a_new_start(command: list[str], socket_folder: Path, cwd: Path) -> list[dict[str, Any]]:
    """What `inside.py` told, from the sandbox that this command makes: once, and again after the
    gateway has started anew.
    """
    socket = str(socket_folder / "modelplex.socket")
    state = cwd / "state"
    state.mkdir()
    lines: list[bytes] = []
    inside = None
    try:
        for number in range(2):
            async with served(None, *LISTENERS, socket, folder=state):
                await until(lambda: answers(socket), what="the socket")
                if inside is None:
                    inside = await asyncio.create_subprocess_exec(
                        *command,
                        cwd=cwd,
                        env=environment(SECRETS),
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                    )
                assert inside.stdin is not None
                assert inside.stdout is not None
                if number:
                    inside.stdin.write(b"again\n")
                lines.append(await asyncio.wait_for(inside.stdout.readline(), WAIT_S))
                if number:
                    assert await asyncio.wait_for(inside.wait(), WAIT_S) == 7
            (state / "said").unlink()
    finally:
        if inside is not None and inside.returncode is None:
            inside.kill()
            await inside.wait()
    return [json.loads(line) for line in lines]


def check(told: list[dict[str, Any]]) -> None:
    first, second = told
    assert "Hello" in first["said"]
    assert second["said"] == first["said"]
    assert first["interfaces"] == ["lo"]
    assert first["network"] == "Network is unreachable"
    assert first["name"] not in {"reached", None}
    for family in ("vsock", "packet", "netlink"):
        assert first[family] == "Address family not supported by protocol", family
    assert first["io_uring"] == "Function not implemented"
    assert first["sockets"] == ["/run/modelplex/modelplex.socket"]
    assert first["processes"] <= 4
    assert not set(SECRETS) & set(first["environment"])
    assert not set(SECRETS.values()) & set(first["environment"].values())
    assert first["environment"]["OPENAI_API_KEY"] == "unused"


# --- run


@needs("bwrap", "--ro-bind", "/", "/", "--unshare-all", "true")
async def test_bubblewraps_example_has_the_gateway_alone_and_outlives_a_new_start(tmp_path: Path) -> None:
    shared = tmp_path / "socket"
    shared.mkdir()
    binds = [word for path in [*INTERPRETER, str(INSIDE)] for word in ("--ro-bind", path, path)]
    start = [sys.executable, str(EXAMPLES / "bubblewrap" / "run.py"), str(shared), *binds]
    check(await through_a_new_start([*start, "--", sys.executable, str(INSIDE)], shared, tmp_path))


@needs("runc")
@pytest.mark.skipif(os.geteuid() != 0, reason="runc without root needs a delegated cgroup")
@pytest.mark.skipif(not os.access("/sys/fs/cgroup", os.W_OK), reason="no cgroup can be made here")
async def test_runcs_example_has_the_gateway_alone_and_outlives_a_new_start(tmp_path: Path) -> None:
    shared, bundle = tmp_path / "socket", tmp_path / "bundle"
    shared.mkdir()
    mounts = [word for path in [*INTERPRETER, str(INSIDE.parent)] for word in ("--mount", path)]
    write = [
        sys.executable,
        str(EXAMPLES / "runc" / "bundle.py"),
        str(bundle),
        "--socket-folder",
        str(shared),
    ]
    written = await asyncio.create_subprocess_exec(*write, *mounts, "--", sys.executable, str(INSIDE))
    assert await asyncio.wait_for(written.wait(), WAIT_S) == 0
    name = f"modelplex-{os.getpid()}"
    try:
        run = ["runc", "--root", str(tmp_path / "runc"), "run", "--bundle", str(bundle), name]
        check(await through_a_new_start(run, shared, tmp_path))
    finally:
        kill = ["runc", "--root", str(tmp_path / "runc"), "delete", "--force", name]
        killed = await asyncio.create_subprocess_exec(*kill, stderr=subprocess.DEVNULL)
        await asyncio.wait_for(killed.wait(), WAIT_S)


@needs("bwrap", "--ro-bind", "/", "/", "--unshare-all", "true")
async def test_the_agent_of_the_examples_streams_and_asks_eight_times_at_once(tmp_path: Path) -> None:
    shared = tmp_path / "socket"
    shared.mkdir()
    socket = str(shared / "modelplex.socket")
    binds = [word for path in [*INTERPRETER, str(EXAMPLES)] for word in ("--ro-bind", path, path)]
    start = [sys.executable, str(EXAMPLES / "bubblewrap" / "run.py"), str(shared), *binds]
    async with served(None, *LISTENERS, socket, folder=tmp_path):
        await until(lambda: answers(socket), what="the socket")
        agent = await asyncio.create_subprocess_exec(
            *start,
            "--",
            sys.executable,
            str(EXAMPLES / "hello.py"),
            cwd=tmp_path,
            env=environment({"XDG_STATE_HOME": str(tmp_path / "state")}),
            stdout=subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(agent.communicate(), WAIT_S)
    said = out.decode().splitlines()
    assert said[0] == "interfaces: lo"
    assert said[1] == "the network: Network is unreachable"
    assert re.match(r"streamed in \d\d+ pieces: This is Modelplex's", said[2])
    assert said[3] == "answered at once: 8"


async def test_firecrackers_name_of_the_socket_is_all_it_takes(tmp_path: Path) -> None:
    machine = json.loads((EXAMPLES / "firecracker" / "vm.json").read_text())
    assert "network-interfaces" not in machine
    port = re.search(r"vsock:2:(\d+)", (EXAMPLES / "firecracker" / "README.md").read_text())
    assert port is not None
    # Firecracker connects to <uds_path>_<port> for each connection of the guest.
    name = f"{Path(machine['vsock']['uds_path']).name}_{port[1]}"
    assert f"--socket {machine['vsock']['uds_path']}_{port[1]} " in (
        EXAMPLES / "firecracker" / "README.md"
    ).read_text().replace("&", " ")
    async with served(None, *LISTENERS, str(tmp_path / name), folder=tmp_path) as gw:
        await until(lambda: answers(str(tmp_path / name)), what="the socket")
        assert (await gw.chat("demo", at=str(tmp_path / name))).status == 200


@pytest.mark.vm
@pytest.mark.timeout(600)  # an emulated machine boots, and imports a large package
@needs("qemu-system-x86_64")
@needs("busybox")
async def test_a_machine_without_a_network_device_gets_streamed_answers(tmp_path: Path) -> None:
    socket = str(tmp_path / "modelplex.socket")
    async with served(None, *LISTENERS, socket, folder=tmp_path) as gw:
        await until(lambda: answers(socket), what="the socket")
        run = await asyncio.create_subprocess_exec(
            str(EXAMPLES / "qemu" / "run.sh"),
            socket,
            env={**os.environ, "PYTHON": sys.executable, "CACHE": str(ROOT / ".cache" / "qemu")},
            stdout=subprocess.PIPE,
        )
        try:
            out, _ = await asyncio.wait_for(run.communicate(), 500)
        finally:
            if run.returncode is None:
                run.terminate()
                await run.wait()
        said = out.decode(errors="replace").replace("\r", "")
        assert run.returncode == 0, said
        for row in ("interfaces: lo", "the network: Network is unreachable", "answered at once: 8"):
            assert row in said
        pieces = re.search(r"streamed in (\d+) pieces: This is Modelplex's", said)
        assert pieces is not None
        assert int(pieces[1]) > 10
        assert len([line for line in json_lines(gw.said.read_text()) if line["event"] == "call"]) == 9


# --- read


@needs("systemd-analyze")
def test_systemds_units_are_right(tmp_path: Path) -> None:
    for unit in (EXAMPLES / "systemd").glob("*.service"):
        # The programs are where an administrator puts them, and not here.
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE)
        (tmp_path / unit.name).write_text(text)
    units = sorted(map(str, tmp_path.iterdir()))
    assert len(units) == 2
    done = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False, timeout=WAIT_S
    )
    told = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "service:" in line]
    assert [line for line in told if "'PrivatePIDs'" not in line] == []


def test_the_agents_unit_has_no_network_and_one_socket() -> None:
    lines = (EXAMPLES / "systemd" / "agent.service").read_text().splitlines()
    for line in (
        "PrivateNetwork=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
        "SystemCallFilter=~io_uring_setup io_uring_enter io_uring_register",
        "TemporaryFileSystem=/run:ro",
        "BindReadOnlyPaths=/run/modelplex",
        "NoNewPrivileges=yes",
    ):
        assert line in lines


def test_dockers_files_agree_with_each_other_and_with_what_they_copy() -> None:
    docker = EXAMPLES / "docker"
    compose = (docker / "compose.yaml").read_text()
    agent = compose.partition("\n  agent:\n")[2]
    assert "network_mode: none" in agent
    assert "cap_drop: [ALL]" in agent
    assert "- ./socket:/socket:ro" in agent
    assert "modelplex.socket:" not in compose, "the folder is mounted, not the file"
    dockerfile = (docker / "Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for source in re.findall(r"^COPY (\S+)", dockerfile, re.MULTILINE):
        assert (ROOT / source).is_file(), source
        assert any(
            source == kept[1:] or source.startswith(f"{kept[1:]}/") for kept in ignored if kept[:1] == "!"
        )
    entry = re.search(r"^ENTRYPOINT (\[.*\])$", dockerfile, re.MULTILINE)
    assert entry is not None
    assert json.loads(entry[1])[:3] == ["python", "/bridge.py", "--socket"]
    assert "--network none" in (docker / "README.md").read_text()


@pytest.mark.parametrize("script", sorted(EXAMPLES.rglob("*.sh")), ids=lambda path: path.parent.name)
def test_the_scripts_parse_and_say_what_is_missing(script: Path, tmp_path: Path) -> None:
    assert os.access(script, os.X_OK)
    subprocess.run(["sh", "-n", str(script)], check=True, timeout=WAIT_S)
    for name in ("dirname", "realpath", "sh"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / name).symlink_to(found)
    done = subprocess.run(
        [str(script), str(tmp_path), "name"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
    )
    assert done.returncode == 2
    assert "is missing" in done.stderr


def test_each_example_has_a_page_that_the_first_one_names() -> None:
    first = (EXAMPLES / "README.md").read_text()
    for folder in EXAMPLES.iterdir():
        if folder.is_dir() and folder.name != "__pycache__":
            assert f"({folder.name}/README.md)" in first
            assert (folder / "README.md").is_file()


async def test_the_health_check_of_compose_asks(tmp_path: Path) -> None:
    """As the container would run it: against a gateway, and where there is none."""
    compose = (EXAMPLES / "docker" / "compose.yaml").read_text()
    script = textwrap.dedent(compose.partition("- |\n")[2].partition("      interval:")[0])
    assert "GET /health/ready" in script
    path = tmp_path / "m.sock"
    script = script.replace("/socket/modelplex.socket", str(path))
    command = [sys.executable, "-c", script]
    async with served('[[providers]]\ntype = "demo"\n', folder=tmp_path):
        assert subprocess.run(command, timeout=WAIT_S, check=False).returncode == 0  # noqa: ASYNC221
    done = subprocess.run(command, timeout=WAIT_S, check=False, capture_output=True)  # noqa: ASYNC221
    assert done.returncode != 0
