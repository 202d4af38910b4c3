"""System calls that Python 3.11 lacks, by ctypes. Each raises OSError with the name of the call as
its `filename`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from modelplex.confinement.system_calls import keep_capabilities

CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWIPC: Final = 0x0800_0000
CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWPID: Final = 0x2000_0000
CLONE_NEWNET: Final = 0x4000_0000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH: Final = 2

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_SECUREBITS = 1, 4, 24, 28
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
SECUREBITS: Final = 0xEF
"""Every bit and its lock: uid 0 gets no capabilities on exec, and none come back."""
CAP_NET_ADMIN, CAP_SYS_PTRACE = 12, 19

# Numbers from 424 on are the same on all architectures.
MOUNT_SETATTR, PIDFD_OPEN, PIDFD_GETFD, OPENAT2 = 442, 434, 438, 437
RESOLVE_NO_SYMLINKS: Final = 4
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
PIDFD_THREAD: Final = os.O_EXCL

STATFS_BYTES: Final = 256
"""More than struct statfs has; its first word is the type."""
FIRST_WORD: Final = ctypes.sizeof(ctypes.c_long)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.process_vm_readv.restype = _libc.process_vm_writev.restype = ctypes.c_ssize_t


def _checked(name: str, result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
    return result


def _word(number: int) -> ctypes.c_long:
    return ctypes.c_long(number)


def unshare(flags: int) -> None:
    _checked("unshare", _libc.unshare(flags))


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    result = _libc.mount(
        os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode()
    )
    try:
        _checked("mount", result)
    except OSError as fault:
        raise OSError(fault.errno, fault.strerror, f"mount {kind or source} on {target}") from None


def bind(source: str, target: str) -> None:
    """Bind-mount `source` at `target`, with all mounts below it."""
    mount(source, target, "", MS_BIND | MS_REC)


def make_read_only(target: str) -> None:
    """With all mounts below it, which a remount would leave writable. Linux 5.12."""
    _set_attributes(target, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)


def ignore_setuid_and_devices(target: str) -> None:
    _set_attributes(target, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)


def _set_attributes(target: str, flags: int) -> None:
    attributes = struct.pack("=QQQQ", flags, 0, 0, 0)
    path, size = os.fsencode(target), _word(len(attributes))
    result = _libc.syscall(_word(MOUNT_SETATTR), _word(AT_FDCWD), path, _word(AT_RECURSIVE), attributes, size)
    _checked("mount_setattr", result)


def file_system(number: int) -> int:
    """The magic number of an open file's file system (statfs(2)), which `os.fstatvfs` lacks."""
    facts = ctypes.create_string_buffer(STATFS_BYTES)
    _checked("fstatfs", _libc.fstatfs(number, facts))
    return int.from_bytes(facts.raw[:FIRST_WORD], sys.byteorder) & 0xFFFF_FFFF


def pivot_root(new: str, old: str) -> None:
    call = _word({"x86_64": 155, "aarch64": 41}[os.uname().machine])
    _checked("pivot_root", _libc.syscall(call, os.fsencode(new), os.fsencode(old)))


def detach(target: str) -> None:
    _checked("umount2", _libc.umount2(os.fsencode(target), MNT_DETACH))


def prctl(option: int, one: int = 0, two: int = 0) -> int:
    words = (ctypes.c_ulong(one), ctypes.c_ulong(two), ctypes.c_ulong(0), ctypes.c_ulong(0))
    return _checked(f"prctl {option}", _libc.prctl(option, *words))


def die_with_parent(signal_number: int) -> None:
    prctl(PR_SET_PDEATHSIG, signal_number)


def make_undumpable() -> None:
    """Another process of the user cannot read our memory or environment, nor take descriptors."""
    prctl(PR_SET_DUMPABLE, 0)


def drop_capabilities(*, keep: tuple[int, ...] = ()) -> None:
    """All capabilities but these, permanently: a program executed from here gets none either."""
    try:
        last = int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="ascii"))
    except OSError:
        last = 40
    for number in range(last + 1):
        try:
            prctl(PR_CAPBSET_DROP, number)
        except PermissionError:
            break  # without the right to drop them there are none
    with suppress(PermissionError):
        prctl(PR_SET_SECUREBITS, SECUREBITS)
    with suppress(OSError):
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    keep_capabilities(sum(1 << number for number in keep))


def pidfd_of_thread(tid: int) -> int:
    """A descriptor of the thread, or, before Linux 6.9, of its process."""
    result = int(_libc.syscall(_word(PIDFD_OPEN), _word(tid), _word(PIDFD_THREAD)))
    if result >= 0:
        os.set_inheritable(result, False)
        return result
    with Path(f"/proc/{tid}/status").open(encoding="ascii", errors="replace") as status:
        group = next(int(line.split()[1]) for line in status if line.startswith("Tgid:"))
    return os.pidfd_open(group)


def descriptor_of(pidfd: int, number: int) -> int:
    """A copy of another process's descriptor."""
    result = _libc.syscall(_word(PIDFD_GETFD), _word(pidfd), _word(number), _word(0))
    return int(_checked("pidfd_getfd", result))


def memory_of(tid: int, at: int, length: int) -> bytes:
    """Memory of another process. Not by `/proc/TID/mem`, which belongs to root where the process
    made itself undumpable.
    """
    data = ctypes.create_string_buffer(length)
    local = _Iovec(ctypes.cast(data, ctypes.c_void_p), length)
    remote = _Iovec(ctypes.c_void_p(at), length)
    one = ctypes.c_ulong(1)
    read = _libc.process_vm_readv(
        ctypes.c_int(tid), ctypes.byref(local), one, ctypes.byref(remote), one, ctypes.c_ulong(0)
    )
    if _checked("process_vm_readv", int(read)) < length:
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT), "process_vm_readv")
    return data.raw


def write_memory(tid: int, at: int, data: bytes) -> None:
    local = _Iovec(ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p), len(data))
    remote = _Iovec(ctypes.c_void_p(at), len(data))
    one = ctypes.c_ulong(1)
    written = _libc.process_vm_writev(
        ctypes.c_int(tid), ctypes.byref(local), one, ctypes.byref(remote), one, ctypes.c_ulong(0)
    )
    _checked("process_vm_writev", int(written))


class _Iovec(ctypes.Structure):
    _fields_ = (("at", ctypes.c_void_p), ("length", ctypes.c_size_t))


def open_without_links(path: str) -> int:
    """An O_PATH descriptor. A link is not followed: at the end of the path it is opened itself,
    elsewhere it is an error. Linux 5.6.
    """
    how = struct.pack("=QQQ", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS)
    result = _libc.syscall(_word(OPENAT2), _word(AT_FDCWD), os.fsencode(path), how, _word(len(how)))
    return int(_checked("openat2", result))


def socket_family(number: int) -> int:
    """Of a descriptor. ENOTSOCK where it is no socket."""
    family, size = ctypes.c_int(), ctypes.c_uint(ctypes.sizeof(ctypes.c_int))
    result = _libc.getsockopt(
        number, socket.SOL_SOCKET, socket.SO_DOMAIN, ctypes.byref(family), ctypes.byref(size)
    )
    _checked("getsockopt", result)
    return family.value


def connect(number: int, address: bytes) -> int:
    """Connect a descriptor to a raw address. Returns 0 or the errno."""
    result = int(_libc.connect(number, address, len(address)))
    return 0 if result == 0 else ctypes.get_errno()


def close_from(first: int) -> None:
    os.closerange(first, 1 << 20)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) >= first:
            with suppress(OSError):
                os.close(int(name))
