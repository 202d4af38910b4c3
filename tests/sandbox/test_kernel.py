"""System calls by ctypes: their results, and the error of each that fails."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from modelplex.sandbox import kernel

PROC_SUPER_MAGIC = 0x9FA0


def test_a_failed_call_has_its_name() -> None:
    calls: dict[str, Callable[[], object]] = {
        "fstatfs": lambda: kernel.file_system(-1),
        "openat2": lambda: kernel.open_without_links("/no/such/path"),
        "mount tmpfs on /no/such/path": lambda: kernel.mount("", "/no/such/path", "tmpfs"),
        "mount_setattr": lambda: kernel.make_read_only("/no/such/path"),
        "prctl 9999": lambda: kernel.prctl(9999),
        "pidfd_getfd": lambda: kernel.descriptor_of(-1, 0),
    }
    for name, call in calls.items():
        with pytest.raises(OSError, match=r"\w") as caught:
            call()
        assert caught.value.filename == name
        assert caught.value.errno


def test_the_file_system_of_a_file() -> None:
    with Path("/proc/self/stat").open() as file:
        assert kernel.file_system(file.fileno()) == PROC_SUPER_MAGIC
    with Path(__file__).open() as file:
        assert kernel.file_system(file.fileno()) != PROC_SUPER_MAGIC


def test_links_in_a_path_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "folder" / "last").symlink_to("file")
    base = str(tmp_path.resolve())
    for name, is_file in (("file", True), ("last", False)):
        number = kernel.open_without_links(f"{base}/folder/{name}")
        assert stat.S_ISREG(os.fstat(number).st_mode) is is_file
        os.close(number)
    with pytest.raises(OSError, match=r"\w") as caught:
        kernel.open_without_links(f"{base}/link/file")
    assert caught.value.errno == errno.ELOOP


def test_memory_and_descriptors_of_a_thread() -> None:
    tid = threading.get_native_id()
    text = ctypes.create_string_buffer(b"in memory")
    assert kernel.memory_of(tid, ctypes.addressof(text), 9) == b"in memory"
    with pytest.raises(OSError, match=r"\w") as caught:
        kernel.memory_of(tid, 0, 8)
    assert caught.value.errno == errno.EFAULT
    read_end, write_end = os.pipe()
    pidfd = kernel.pidfd_of_thread(tid)
    copy = kernel.descriptor_of(pidfd, write_end)
    os.write(copy, b"x")
    assert os.read(read_end, 1) == b"x"
    assert not os.get_inheritable(pidfd)
    for number in (read_end, write_end, pidfd, copy):
        os.close(number)


def test_connect_returns_an_errno(tmp_path: Path) -> None:
    path = tmp_path / "s"
    address = struct.pack("=H", socket.AF_UNIX) + os.fsencode(path) + b"\0"
    with socket.socket(socket.AF_UNIX) as client, socket.socket(socket.AF_UNIX) as server:
        assert kernel.connect(client.fileno(), address) == errno.ENOENT
        server.bind(str(path))
        server.listen()
        assert kernel.connect(client.fileno(), address) == 0


HARDENED = """
import os
from modelplex.confinement import system_calls
from modelplex.sandbox import kernel
system_calls.forbid_new_privileges()
kernel.drop_capabilities()
assert system_calls.effective_capabilities() == 0
status = dict(row.split(":\\t", 1) for row in open("/proc/self/status").read().splitlines())
assert [int(status[name], 16) for name in ("CapPrm", "CapEff", "CapAmb")] == [0, 0, 0], status
assert status["NoNewPrivs"] == "1"
kernel.make_undumpable()
assert kernel.prctl(3) == 0
os.dup2(0, 200)
kernel.close_from(3)
print(sorted(map(int, os.listdir("/proc/self/fd")))[:3], os.path.exists("/proc/self/fd/200"))
"""


def test_a_process_gives_up_its_rights() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HARDENED], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == "[0, 1, 2] False\n", done.stderr


def test_one_capability_may_be_kept() -> None:
    code = (
        "from modelplex.confinement import system_calls\n"
        "from modelplex.sandbox import kernel\n"
        "had = system_calls.effective_capabilities()\n"
        "kernel.drop_capabilities(keep=(kernel.CAP_SYS_PTRACE,))\n"
        "print(system_calls.effective_capabilities() == had & 1 << kernel.CAP_SYS_PTRACE)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == "True\n", done.stderr
