"""What arbitrary Python can do in a process that is confined as a gateway."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from modelplex.config import Config
from modelplex.confinement import confine, system_calls
from modelplex.confinement.confine import UNCONFINED, ConfinementError, word_of

from .conftest import Confined


def with_confine(value: Literal["off", "require"]) -> Config:
    config = Config()
    return msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, confine=value))


def test_no_file_outside_is_read_or_written(confined: Confined, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not for the gateway")
    (tmp_path / "folder").mkdir()
    (told,) = confined(
        f"""
tell([
    refused(lambda: open({str(secret)!r}).read()),
    refused(lambda: open({str(secret)!r}, "a")),
    refused(lambda: open({str(tmp_path / "new")!r}, "w")),
    refused(lambda: os.unlink({str(secret)!r})),
    refused(lambda: os.rename({str(secret)!r}, {str(tmp_path / "moved")!r})),
    refused(lambda: os.truncate({str(secret)!r}, 0)),
    refused(lambda: os.rmdir({str(tmp_path / "folder")!r})),
    refused(lambda: os.listdir({str(tmp_path)!r})),
    refused(lambda: os.symlink("/etc", os.path.join({str(tmp_path)!r}, "link"))),
    refused(lambda: open("/proc/%d/environ" % os.getppid()).read()),
    refused(lambda: open("/proc/self/root" + {str(secret)!r}).read()),
    refused(lambda: open(os.__file__, "a")),
])
"""
    )
    assert told == ["EACCES"] * len(told)
    assert secret.read_text() == "not for the gateway"


def test_no_program_and_no_process_is_started(confined: Confined) -> None:
    (told,) = confined(
        """
import ctypes, subprocess
from modelplex.confinement.system_calls import call
memory = os.memfd_create("program")
os.write(memory, open(sys.executable, "rb").read())
tell([
    refused(lambda: subprocess.run(["true"])),
    refused(lambda: os.execv(sys.executable, [sys.executable, "-c", "1"])),
    refused(lambda: os.execve(memory, ["program"], {})),
    refused(os.fork),
    refused(lambda: call("vfork", 58) if os.uname().machine == "x86_64" else os.fork()),
    refused(lambda: os.posix_spawn("/bin/true", ["true"], {})),
    refused(lambda: os.system("true") and os.fork()),
])
"""
    )
    assert told == ["EPERM"] * len(told)


def test_threads_start_as_before(confined: Confined) -> None:
    (told,) = confined(
        """
found = []
thread = threading.Thread(target=lambda: found.append(refused(os.fork)))
thread.start()
thread.join()
tell(found)
"""
    )
    assert told == ["EPERM"]


def test_a_thread_that_ran_before_the_seal_is_sealed_too(confined: Confined) -> None:
    (told,) = confined(
        """
began, go_on, found = threading.Event(), threading.Event(), []
def wait():
    began.set()
    go_on.wait()
    found.append(refused(lambda: socket.socket(socket.AF_UNIX)))
thread = threading.Thread(target=wait)
thread.start()
began.wait()
confinement.seal()
go_on.set()
thread.join()
tell(found)
""",
        seals=False,
    )
    assert told == ["EPERM"]


def test_nobody_can_connect_to_a_new_listener(confined: Confined) -> None:
    (told,) = confined(
        """
bound = refused(lambda: socket.socket().bind(("127.0.0.1", 61999)))
listener = socket.socket()
listener.listen()
tell([bound, listener.getsockname()[1], refused(lambda: socket.socket(socket.AF_UNIX))])
"""
    )
    assert told == ["EACCES", 0, "EPERM"]


def test_only_ports_of_the_config_are_connected_to(confined: Confined) -> None:
    with socket.create_server(("127.0.0.1", 0)) as allowed, socket.create_server(("127.0.0.1", 0)) as other:
        ports = allowed.getsockname()[1], other.getsockname()[1]
        (told,) = confined(
            f"""
tell([refused(lambda: socket.create_connection(("127.0.0.1", port))) for port in {ports!r}])
""",
            text=f'[[providers]]\ntype = "openai"\nname = "a"\nbase_url = "http://127.0.0.1:{ports[0]}/v1"\n',
        )
    assert told == ["done", "EACCES"]


def test_a_port_is_not_reached_past_the_rules_for_tcp(confined: Confined) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (told,) = confined(
            f"""
there = ("127.0.0.1", {port})
tell([
    refused(lambda: socket.socket().sendto(b"x", socket.MSG_FASTOPEN, there)),
    refused(lambda: socket.socket().sendmsg([b"x"], [], socket.MSG_FASTOPEN, there)),
    refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).connect(there)),
])
"""
        )
    assert told == ["EPERM"] * 3


def test_no_datagram_reaches_a_unix_socket(confined: Confined, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "journal"))
        (told,) = confined(
            f"""
def pair():
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(b"forged", {str(tmp_path / "journal")!r})
tell(refused(pair))
"""
        )
    assert told == "EPERM"


def test_nothing_else_of_a_file_outside_is_changed(confined: Confined, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(0o600)
    (told,) = confined(
        f"""
path = {str(secret)!r}
tell([
    refused(lambda: os.chmod(path, 0o777)),
    refused(lambda: os.chown(path, os.getuid(), os.getgid())),
    refused(lambda: os.utime(path, (1, 1))),
    refused(lambda: os.setxattr(path, "user.a", b"1")),
])
"""
    )
    assert told == ["EPERM"] * 4
    assert secret.stat().st_mode & 0o777 == 0o600


def test_no_other_process_is_limited_or_shares_memory(confined: Confined) -> None:
    """A limit of processor time of 0 kills."""
    (told,) = confined(
        """
import resource
from modelplex.confinement.system_calls import call
shared = {"x86_64": 29, "aarch64": 194}[os.uname().machine]
tell([
    refused(lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU)),
    refused(lambda: resource.setrlimit(resource.RLIMIT_CPU, resource.getrlimit(resource.RLIMIT_CPU))),
    refused(lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 0)),
    refused(lambda: os.sched_setaffinity(os.getppid(), os.sched_getaffinity(0))),
    refused(lambda: call("shmget", shared, 0, 4096, 0o1600)),
])
"""
    )
    assert told == ["EPERM", "done", "EPERM", "EPERM", "EPERM"]


def test_no_other_process_is_signalled_or_traced(confined: Confined) -> None:
    (told,) = confined(
        """
from modelplex.confinement.system_calls import call
trace = {"x86_64": 101, "aarch64": 117}[os.uname().machine]
tell([
    refused(lambda: os.kill(os.getppid(), 0)),
    refused(lambda: call("ptrace", trace, 16, os.getppid(), 0, 0)),
    refused(lambda: os.kill(os.getpid(), 0)),
])
"""
    )
    assert told == ["EPERM", "EPERM", "done"]


def test_the_state_folder_is_written_and_libraries_are_read(confined: Confined, tmp_path: Path) -> None:
    (tmp_path / "gateway" / "state").mkdir(parents=True)
    (told,) = confined(
        f"""
import sqlite3
state = {str(tmp_path / "gateway" / "state")!r}
database = sqlite3.connect(state + "/a.sqlite")
database.execute("PRAGMA journal_mode=WAL")
database.execute("CREATE TABLE t (x)")
database.executemany("INSERT INTO t VALUES (?)", [("x" * 1000,)] * 20000)
database.execute("CREATE INDEX i ON t (x)")
database.commit()
database.execute("VACUUM")
import ssl, zoneinfo, email.mime.text
ssl.create_default_context()
tell([
    len(socket.getaddrinfo("localhost", 80)) > 0,
    os.listdir(state) != [],
    socket.socketpair()[0].fileno() > 0,
])
"""
    )
    assert told == [True, True, True]


def test_a_log_in_a_home_leaves_files_open_and_is_named(confined: Confined, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (told,) = confined(
        f"""
tell([
    refused(lambda: open({str(tmp_path / "secret")!r}).read()),
    refused(os.fork),
    refused(lambda: socket.socket().bind(("127.0.0.1", 61999))),
    confinement.status()["files"],
    *confinement.held.missing,
])
""",
        text=f'[log]\nfile = "{tmp_path / "log"}"\n',
        home=tmp_path,
    )
    assert told == [
        "done",
        "EPERM",
        "EACCES",
        "all",
        f"it writes to {tmp_path}, which holds much else, so that files are open to it",
    ]


def test_without_what_it_needs_a_gateway_that_requires_it_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(system_calls, "landlock_version", lambda: 0)
    config = with_confine("require")
    with pytest.raises(ConfinementError, match="the kernel has no Landlock"):
        confine.confine(config, environ=os.environ, new_launcher=pytest.fail)
    assert word_of(config).startswith("partly: the kernel has no Landlock")


def test_off_gives_up_nothing() -> None:
    config = with_confine("off")
    assert confine.confine(config, environ=os.environ, new_launcher=pytest.fail) is UNCONFINED
    assert word_of(config) == "off"
    assert UNCONFINED.run_command is None
