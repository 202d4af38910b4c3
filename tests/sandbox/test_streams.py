"""The standard streams that a sandboxed program inherits."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import WAIT_S
from tests.sandbox.sandboxes import Person, allowed


def test_standard_streams_pass_through(me: Person) -> None:
    done = me.run("--no-protect", "--", "sh", "-c", "cat; echo error >&2", stdin="a line\n")
    assert (done.stdout, done.stderr) == ("a line\n", "error\n")


def test_a_network_socket_as_stream_is_rejected(me: Person) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        done = subprocess.run(
            me.command("run", "--", "true"),
            cwd=me.folder,
            env=me.environ,
            stdin=udp.fileno(),
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
    assert done.returncode == 1
    assert "standard input is a socket that could reach the host's network" in done.stderr


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_closed_stream_is_dev_null_inside(me: Person, number: int) -> None:
    (me.folder / "look.py").write_text(
        "import os; open('seen', 'w').write(str([os.readlink(f'/proc/self/fd/{n}') for n in range(3)]))"
    )
    done = subprocess.run(
        [
            "/bin/sh",
            "-c",
            f'exec "$@" {number}<&-',
            "sh",
            *me.command("run", "--", sys.executable, "look.py"),
        ],
        cwd=me.folder,
        env=me.environ,
        stdin=subprocess.PIPE,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    allowed(done.stderr)
    assert done.returncode == 0, done.stderr
    seen = eval((me.folder / "seen").read_text())
    assert [name == "/dev/null" for name in seen] == [each == number for each in range(3)], seen


def test_a_device_or_kernel_object_as_stream_is_rejected(me: Person) -> None:
    epoll = select.epoll()
    made = [os.eventfd(0), epoll.fileno()]
    if os.geteuid() == 0 and Path("/dev/kmsg").exists():
        made.append(os.open("/dev/kmsg", os.O_RDONLY))
    for number in made:
        done = subprocess.run(
            me.command("run", "--", "true"),
            cwd=me.folder,
            env=me.environ,
            stdin=number,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert done.returncode == 1
        assert "by which the program might leave the sandbox" in done.stderr
    for number in (*made[:1], *made[2:]):
        os.close(number)
    epoll.close()


@pytest.mark.parametrize(
    "path",
    [
        "/proc/self/mem",
        "/proc/cpuinfo",
        "/proc/self/ns/net",
        "/proc/self/ns/mnt",
        "/sys/kernel/uevent_seqnum",
    ],
)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_file_of_proc_or_sys_as_stream_is_rejected(me: Person, path: str, number: int) -> None:
    """Such a file looks like any other: S_ISREG holds."""
    if not os.access(path, os.R_OK):
        pytest.skip(f"{path} is not to be had here")
    opened = os.open(path, os.O_RDONLY)
    streams = [subprocess.PIPE] * 3
    streams[number] = opened
    popen = subprocess.Popen(
        me.command("run", "--", "true"),
        cwd=me.folder,
        env=me.environ,
        stdin=streams[0],
        stdout=streams[1],
        stderr=streams[2],
    )
    os.close(opened)
    _, stderr = popen.communicate(timeout=WAIT_S)
    # 120 is Python's own, where stderr cannot be written to.
    assert popen.returncode == (1 if number != 2 else 120)
    if number != 2:
        assert b"by which the program might leave the sandbox" in stderr


def test_files_of_every_storage_are_accepted(me: Person) -> None:
    """On a disk, in memory, and without a name."""
    for made in (os.memfd_create("m"), os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR)):
        os.write(made, b"there")
        os.lseek(made, 0, os.SEEK_SET)
        done = subprocess.run(
            me.command("run", "--", "cat"),
            cwd=me.folder,
            env=me.environ,
            stdin=made,
            capture_output=True,
            timeout=WAIT_S,
            check=False,
        )
        os.close(made)
        assert done.stdout == b"there", done.stderr


def test_a_file_that_is_not_at_its_path_is_rejected(me: Person) -> None:
    """Nothing could be put between the program and it."""
    given = me.folder / "given"
    given.write_text("text")
    with given.open() as stream:
        os.link(given, me.folder / "other")
        given.unlink()
        done = subprocess.run(
            me.command("run", "--", "cat"),
            cwd=me.folder,
            env=me.environ,
            stdin=stream,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
    assert done.returncode == 1
    assert "is a file that is not at" in done.stderr
