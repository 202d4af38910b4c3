"""The system calls that Python has no name for, by ctypes. Each raises OSError, with the call's
name where a path would stand.

Above it everything of the sandbox; it knows nothing of what they are used for. `os.unshare` and its
kin are of Python 3.12, and this runs on 3.11.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

CLONE_NEWNS: Final = 0x0002_0000
CLONE_NEWIPC: Final = 0x0800_0000
CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWPID: Final = 0x2000_0000
CLONE_NEWNET: Final = 0x4000_0000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH: Final = 2

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_SECUREBITS = 1, 4, 24, 28
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 38, 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
SECUREBITS: Final = 0xEF
"""Every bit and its lock: uid 0 means nothing to exec, and no capability comes back."""
CAP_SYS_PTRACE: Final = 19
CAPABILITY_VERSION: Final = 0x2008_0522

# The numbers from 424 on are the same on every machine.
MOUNT_SETATTR, PIDFD_OPEN, PIDFD_GETFD, OPENAT2 = 442, 434, 438, 437
RESOLVE_NO_SYMLINKS: Final = 4
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
PIDFD_THREAD: Final = os.O_EXCL

STATFS_BYTES: Final = 256
"""More than struct statfs has; the type is its first word."""
FIRST_WORD: Final = ctypes.sizeof(ctypes.c_long)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.process_vm_readv.restype = ctypes.c_ssize_t


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
    """Show what stands at `source` at `target` too, with all that is mounted below it."""
    mount(source, target, "", MS_BIND | MS_REC)


def make_read_only(target: str) -> None:
    """With all that is mounted below it: a remount would change the topmost alone. Linux 5.12."""
    attributes = struct.pack("=QQQQ", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, 0, 0, 0)
    result = _libc.syscall(
        _word(MOUNT_SETATTR),
        _word(AT_FDCWD),
        os.fsencode(target),
        _word(AT_RECURSIVE),
        attributes,
        _word(len(attributes)),
    )
    _checked("mount_setattr", result)


def make_harmless(target: str) -> None:
    """No set-uid program and no device counts there."""
    attributes = struct.pack("=QQQQ", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, 0, 0, 0)
    result = _libc.syscall(
        _word(MOUNT_SETATTR),
        _word(AT_FDCWD),
        os.fsencode(target),
        _word(AT_RECURSIVE),
        attributes,
        _word(len(attributes)),
    )
    _checked("mount_setattr", result)


def file_system(number: int) -> int:
    """The magic number of the file system that an open file is on (statfs(2)); `os.fstatvfs` does
    not tell it.
    """
    facts = ctypes.create_string_buffer(STATFS_BYTES)
    _checked("fstatfs", _libc.fstatfs(number, facts))
    return int.from_bytes(facts.raw[:FIRST_WORD], sys.byteorder) & 0xFFFF_FFFF


def pivot_root(new: str, old: str) -> None:
    numbers = {"x86_64": 155, "aarch64": 41}
    _checked(
        "pivot_root",
        _libc.syscall(_word(numbers[os.uname().machine]), os.fsencode(new), os.fsencode(old)),
    )


def detach(target: str) -> None:
    _checked("umount2", _libc.umount2(os.fsencode(target), MNT_DETACH))


def prctl(option: int, one: int = 0, two: int = 0) -> int:
    words = (ctypes.c_ulong(one), ctypes.c_ulong(two), ctypes.c_ulong(0), ctypes.c_ulong(0))
    return _checked(f"prctl {option}", _libc.prctl(option, *words))


def die_with_parent(signal_number: int) -> None:
    prctl(PR_SET_PDEATHSIG, signal_number)


def be_unreadable() -> None:
    """Neither memory nor environment of this process can be read, nor its descriptors taken, by
    another of the same user.
    """
    prctl(PR_SET_DUMPABLE, 0)


def forbid_new_privileges() -> None:
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities(*, keep: tuple[int, ...] = ()) -> None:
    """Every capability but these, and for good: a program that is executed from here on gets none
    of them either.
    """
    last = int(_read("/proc/sys/kernel/cap_last_cap", default="40"))
    for number in range(last + 1):
        try:
            prctl(PR_CAPBSET_DROP, number)
        except PermissionError:
            break  # there was nothing to drop from
    with suppress(PermissionError):
        prctl(PR_SET_SECUREBITS, SECUREBITS)
    with suppress(OSError):
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    kept = sum(1 << number for number in keep) & effective_capabilities()
    low, high = kept & 0xFFFF_FFFF, kept >> 32
    header = struct.pack("=Ii", CAPABILITY_VERSION, 0)
    _checked("capset", _libc.capset(header, struct.pack("=6I", low, low, 0, high, high, 0)))


def effective_capabilities() -> int:
    header = ctypes.create_string_buffer(struct.pack("=Ii", CAPABILITY_VERSION, 0), 8)
    data = ctypes.create_string_buffer(24)
    _checked("capget", _libc.capget(header, data))
    low, _, _, high, _, _ = struct.unpack("=6I", data.raw)
    return int(low | high << 32)


def pidfd_of_thread(tid: int) -> int:
    """A descriptor of the thread, or, before Linux 6.9, of the process that it belongs to."""
    result = int(_libc.syscall(_word(PIDFD_OPEN), _word(tid), _word(PIDFD_THREAD)))
    if result >= 0:
        os.set_inheritable(result, False)
        return result
    with Path(f"/proc/{tid}/status").open(encoding="ascii", errors="replace") as status:
        group = next(int(line.split()[1]) for line in status if line.startswith("Tgid:"))
    return os.pidfd_open(group)


def descriptor_of(pidfd: int, number: int) -> int:
    """Another process's descriptor, as one of ours."""
    return int(
        _checked("pidfd_getfd", _libc.syscall(_word(PIDFD_GETFD), _word(pidfd), _word(number), _word(0)))
    )


def memory_of(tid: int, at: int, length: int) -> bytes:
    """A piece of another process's memory. By the call, since `/proc/TID/mem` of a process that
    made itself undumpable belongs to root. Raises OSError.
    """
    data = ctypes.create_string_buffer(length)
    here = _Piece(ctypes.cast(data, ctypes.c_void_p), length)
    there = _Piece(ctypes.c_void_p(at), length)
    one = ctypes.c_ulong(1)
    read = _checked(
        "process_vm_readv",
        int(
            _libc.process_vm_readv(
                ctypes.c_int(tid), ctypes.byref(here), one, ctypes.byref(there), one, ctypes.c_ulong(0)
            )
        ),
    )
    if read < length:
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT), "process_vm_readv")
    return data.raw


class _Piece(ctypes.Structure):
    _fields_ = (("at", ctypes.c_void_p), ("length", ctypes.c_size_t))


def open_place(path: str) -> int:
    """A descriptor of what stands at a path, none of whose parts may be a symbolic link.
    Linux 5.6.
    """
    how = struct.pack("=QQQ", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS)
    result = _libc.syscall(_word(OPENAT2), _word(AT_FDCWD), os.fsencode(path), how, _word(len(how)))
    return int(_checked("openat2", result))


def connect(number: int, address: bytes) -> int:
    """Connect this descriptor to an address as it stands in memory. Returns 0, or the error's
    number.
    """
    result = int(_libc.connect(number, address, len(address)))
    return 0 if result == 0 else ctypes.get_errno()


def close_from(first: int) -> None:
    """Close every descriptor from this one on."""
    os.closerange(first, 1 << 20)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) >= first:
            try:
                os.close(int(name))
            except OSError:
                continue


def ioctl(number: int, request: int, argument: bytearray) -> None:
    fcntl.ioctl(number, request, argument)


def _read(path: str, *, default: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return default
