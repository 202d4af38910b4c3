"""Every known way out of a sandbox, tried from inside, and from outside to show that it exists."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelplex.sandbox.environment import PASSED, POINTED
from tests.processes import WAIT_S
from tests.sandbox.repositories import repository
from tests.sandbox.sandboxes import PEOPLE, PROGRAMS, SECRET, Person, allowed, by_either_builder, person

CLOSED = {
    "tcp": "ECONNREFUSED",
    "tcp_beyond": "ENETUNREACH",
    "udp": "ECONNREFUSED",
    "udp_beyond": "ENETUNREACH",
    "vsock": "EAFNOSUPPORT",
    "alg": "EAFNOSUPPORT",
    "netlink_write": "EPERM",
    "netlink_other": "EPROTONOSUPPORT",
    "unix_datagram": "EPROTONOSUPPORT",
    "unix_datagram_by_pair": "ENOTCONN",
    "io_uring": "ENOSYS",
    "key_ring": "ENOSYS",
    "raw": "EPERM",
    "packet": "EAFNOSUPPORT",
    "by_int_80": "SIG31",
    "inherited_tcp": "EBADF",
    "inherited_udp": "EBADF",
    "inherited_folder": "EBADF",
    "abstract": "ECONNREFUSED",
    "socket_in_tmp": "ENOENT",
    "socket_in_run": "ENOENT",
    "socket_in_home": "ENOENT",
    "socket_in_folder": "EACCES",
    "socket_in_later": "EACCES",
    "socket_through_proc": "EACCES",
    "socket_by_relative_path": "EACCES",
    "socket_through_link": "EACCES",
    "socket_in_place_of_an_own": "EACCES",
    "secret": "ENOENT",
    "host_process": "ENOENT",
    "host_pidfd": "ESRCH",
    "first_ptrace": "EPERM",
    "first_descriptor": "EPERM",
    "first_memory": "EACCES",
    "first_root": "EACCES",
    "enter_network": "ENOENT",
    "enter_of_first": "EACCES",
    "home_file": "ENOENT",
    "setting_of_the_host": "EROFS",
    "mount_again": "EPERM",
    "device": "ENOENT",
    "control_groups": "EPERM",
    "log_of_the_kernel": "ENOSYS",
    "counters": "ENOSYS",
}
"""The attempts, and their results inside."""
ROOT_ALONE = {"setting_of_the_host", "mount_again", "control_groups"}
"""Ways that only root has."""
MAY_LACK = {"vsock", "alg", "io_uring", "by_int_80", "key_ring", "device", "tcp_beyond", "udp_beyond"} | {
    "log_of_the_kernel",
    "counters",
}
"""Ways that a kernel, or a machine without a network, may lack."""


class Host:
    """Targets on the host: listeners, a file, a process."""

    def __init__(self, who: Person, stack: ExitStack) -> None:
        self._who, self._stack = who, stack
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        threading.Thread(target=_pong, args=(udp,), daemon=True).start()
        self.inherited = [
            stack.enter_context(socket.create_connection(tcp.getsockname())),
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
        ]
        self.folder = os.open(who.folder, os.O_RDONLY)
        stack.callback(os.close, self.folder)
        abstract = f"modelplex-test-{os.getpid()}-{who.name}"
        self.listen("\0" + abstract)
        sleeper = subprocess.Popen([*who.words, "/bin/sleep", "600"], env=who.environ)
        stack.callback(sleeper.wait)
        stack.callback(sleeper.kill)
        secret = who.home / "key"
        secret.write_text(SECRET)
        who.give(secret)
        self.sockets = {"tmp": f"/tmp/mpx-{os.getpid()}-{who.name}.sock"}
        self.sockets["home"] = str(who.home / "s.sock")
        self.sockets["folder"] = str(who.folder / "s.sock")
        self.sockets["later"] = str(who.folder / "later.sock")
        if os.geteuid() == 0:
            self.sockets["run"] = f"/run/mpx-{os.getpid()}-{who.name}.sock"
        for place in self.sockets:
            if place != "later":
                self.listen(self.sockets[place])
        datagrams = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        datagrams.bind(str(who.folder / "d.sock"))
        (who.folder / "d.sock").chmod(0o777)
        self.facts: dict[str, Any] = {
            "datagrams": str(who.folder / "d.sock"),
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "beyond": "203.0.113.1",  # of the documentation block: has a route wherever there is a default route
            "abstract": abstract,
            "sockets": self.sockets,
            "secret": SECRET,
            "pid": sleeper.pid,
            "inherited_tcp": self.inherited[0].fileno(),
            "inherited_udp": self.inherited[1].fileno(),
            "inherited_folder": self.folder,
            "home_file": str(secret),
            "device": "/dev/net/tun",
        }

    def listen(self, path: str) -> None:
        server = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(path)
        server.listen()
        if not path.startswith("\0"):
            Path(path).chmod(0o777)
            self._stack.callback(Path(path).unlink)

    def attempts(self, *words: str) -> dict[str, str]:
        """The result of each, in a program started by this command. One more socket is created
        while it runs.
        """
        who = self._who
        ready = who.folder / "ready"
        with suppress(FileNotFoundError):
            ready.unlink()
        program = who.folder / "attempts.py"
        program.write_text((PROGRAMS / "attempts.py").read_text())
        popen = subprocess.Popen(
            [*words, sys.executable, str(program), json.dumps({**self.facts, "ready": str(ready)})],
            cwd=who.folder,
            env=who.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[*(sock.fileno() for sock in self.inherited), self.folder],
        )
        watch = threading.Event()
        for _ in range(int(WAIT_S / 0.02)):
            if ready.exists() or popen.poll() is not None:
                break
            watch.wait(0.02)
        if popen.poll() is None and not Path(self.sockets["later"]).exists():
            self.listen(self.sockets["later"])
        out, err = popen.communicate("\n", timeout=WAIT_S)
        allowed(err)
        assert popen.returncode == 0, err
        results: dict[str, str] = json.loads(out)
        return results


def _pong(udp: socket.socket) -> None:
    with suppress(OSError):
        while True:
            _, sender = udp.recvfrom(16)
            udp.sendto(b"pong", sender)


class Tried:
    """The same attempts outside and inside."""

    def __init__(self, who: Person, outside: dict[str, str], inside: dict[str, str]) -> None:
        self.who, self.outside, self.inside = who, outside, inside


WAYS = {"own": [], "bwrap": ["--bwrap"]}


@pytest.fixture(scope="module", params=[f"{name}-{way}" for name in PEOPLE for way in WAYS])
def tried(request: pytest.FixtureRequest) -> Generator[Tried]:
    name, _, way = request.param.partition("-")
    if way == "bwrap" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    with person(name) as who, ExitStack() as stack:
        host = Host(who, stack)
        inside = host.attempts(*who.command("run", *WAYS[way], "--"))
        outside = host.attempts(*who.words)
        yield Tried(who, outside, inside)


@pytest.mark.parametrize("way", CLOSED)
def test_a_way_out_is_open_outside_and_closed_inside(tried: Tried, way: str) -> None:
    if way == "by_int_80" and platform.machine() != "x86_64":
        pytest.skip("calls of another architecture")
    if way in ROOT_ALONE and tried.who.name != "root":
        assert tried.outside[way] != "works"
        assert tried.inside[way] != "works"
        return
    if tried.outside[way] == "not tried":
        pytest.skip("needs root")
    assert tried.inside[way] == CLOSED[way]
    if way in MAY_LACK and tried.outside[way] != "works":
        pytest.skip(f"not open outside either: {tried.outside[way]}")
    assert tried.outside[way] == "works"


def test_loopback_is_the_only_interface(tried: Tried) -> None:
    assert tried.inside["interfaces"] == "lo"


def test_no_descriptor_is_inherited(tried: Tried) -> None:
    assert tried.inside["descriptors"] == ""
    assert tried.outside["descriptors"] != ""


def test_only_processes_of_the_sandbox_are_visible(tried: Tried) -> None:
    numbers = [int(number) for number in tried.inside["processes"].split(",")]
    assert 1 in numbers
    assert len(numbers) <= 3  # the supervisor, the program, a child of its own


def test_the_environment_has_documented_variables_only(tried: Tried) -> None:
    names = set(tried.inside["environ"].split(","))
    assert not {name for name in names if not name.startswith("LC_")} - {
        *PASSED,
        *POINTED,
        "TMPDIR",
        "PYTHONPATH",
        "NODE_OPTIONS",
    }
    assert set(POINTED) <= names
    assert "MY_API_KEY" in tried.outside["environ"]


# --- files that run programs on the host later


def tree_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """The modes and contents of what is protected."""
    kept = [folder / ".git" / "config", *(folder / ".git" / "hooks").iterdir(), folder / "sub" / ".git"]
    kept += [folder / ".git" / "modules" / "sub" / "config", folder / ".team" / "gitconfig"]
    return {str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes()) for path in kept}


@pytest.mark.parametrize("name", PEOPLE)
@by_either_builder
def test_a_protected_file_cannot_be_replaced(name: str, builder: list[str]) -> None:
    with person(name) as who:
        project = repository(who.folder / "p")
        (project / ".team").mkdir()
        (project / ".team" / "gitconfig").write_text("[core]\n\thooksPath = .team/hooks\n")
        with (project / ".git" / "config").open("a") as file:
            file.write("[include]\n\tpath = ../.team/gitconfig\n")
        for path in (project, *project.rglob("*")):
            who.give(path)
        existing = [".git/config", ".git/hooks", "sub/.git", ".git/modules/sub/config", ".team/gitconfig"]
        missing = [".git/commondir", ".git/modules/sub/commondir", ".vscode", ".idea", ".team/hooks"]
        program = who.folder / "p" / "replace.py"
        program.write_text((PROGRAMS / "replace.py").read_text())
        before = tree_of(project)
        here = replace(who, folder=project)
        command = [sys.executable, "replace.py", *existing, *missing]
        done = here.run(*builder, "--", *command)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        assert tree_of(project) == before
        assert not any((project / path).exists() for path in missing)
        # The same attempts work where nothing is protected.
        done = here.run(*builder, "--no-protect", "--", *command)
        for way in ("write", "truncate", "remove", "rename its folder"):
            assert f": {way}\n" in done.stdout, done.stderr


def test_a_hidden_file_cannot_be_read(who: Person) -> None:
    (who.folder / "api").mkdir()
    who.give(who.folder / "api")
    for path in (who.folder / ".env", who.folder / "api" / ".env"):
        path.write_text(SECRET)
        who.give(path)
    script = "cat .env api/.env; mv api moved; cat moved/.env; ln moved/.env x; cp moved/.env y; cat x y; grep -r sk- . /proc/self/root$PWD"
    done = who.run("--", "sh", "-c", script)
    assert SECRET not in done.stdout + done.stderr
    assert (who.folder / "moved" / ".env").read_text() == SECRET


SETUID = """
import os, stat
made = stat.S_IFREG | 0o4755
ways = {
    "chmod": lambda name: os.chmod(name, 0o4755), "fchmod": lambda name: os.chmod(os.open(name, os.O_RDONLY), 0o4755),
    "open": lambda name: os.open(name + "o", os.O_CREAT | os.O_WRONLY, 0o4755), "mknod": lambda name: os.mknod(name + "n", made),
    "creat": lambda name: os.open(name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o4755),
}
for way, call in ways.items():
    open(way, "w").close()
    try: call(way)
    except OSError as fault: print(way, fault.strerror)
"""


def test_no_setuid_program_is_left_on_the_host(who: Person) -> None:
    """Another user of the host could run it as this one."""
    done = who.python(SETUID)
    assert done.stdout.splitlines() == [
        f"{way} Operation not permitted" for way in ("chmod", "fchmod", "open", "mknod", "creat")
    ]
    assert not [each for each in who.folder.iterdir() if each.stat().st_mode & 0o6000]
    outside = [*who.words, sys.executable, "-c", SETUID]
    done = subprocess.run(
        outside, cwd=who.folder, env=who.environ, capture_output=True, text=True, check=True, timeout=WAIT_S
    )
    assert done.stdout == ""
    assert [each for each in who.folder.iterdir() if each.stat().st_mode & 0o4000]
