"""Which system calls a sandboxed program has: a filter in the kernel's own small language, written
by `program` and put in place by `install`.

`program` is a function of the machine's name alone. What the filter holds, and why:

- `socket` makes AF_UNIX, AF_INET and AF_INET6 (and, where asked for, routing netlink): AF_VSOCK
  belongs to no network namespace, and reaches the hypervisor.
- Of AF_INET only streams and datagrams: raw and packet sockets would need a capability too, and
  other types load modules.
- Of AF_UNIX only streams and packets in order: a datagram names its receiver in memory that a
  filter cannot see.
- `connect` is asked of a supervisor (connects.py), for the same reason: an address lies in memory.
- io_uring makes sockets without asking a filter. Key rings and typing into the terminal (TIOCSTI)
  reach what is outside. So may the kernel's log, and counters of what the machine does; and with
  bpf and userfaultfd they are what faults of the kernel are mostly reached by.
- Root makes no user namespace: with the capabilities of one it could mount the host's control
  groups, whose files belong to its number.
- A call by another machine's numbers (32 bits, x32) would go past all of this.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

ALLOW, KILL, NOTIFY, ERRNO = 0x7FFF_0000, 0x8000_0000, 0x7FC0_0000, 0x0005_0000
LOAD, EQUAL, AT_LEAST, ANY_OF, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
NUMBER_AT, ARCH_AT = 0, 4
X32_BIT: Final = 0x4000_0000
TYPE_MASK: Final = 0xF
"""The kind of a socket without SOCK_CLOEXEC and SOCK_NONBLOCK."""
STREAM, DATAGRAM, PACKETS_IN_ORDER = 1, 2, 5
UNIX, INET, INET6, NETLINK = 1, 2, 10, 16
ROUTE: Final = 0
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
NEW_USER: Final = 0x1000_0000
CLONE3: Final = 435
"""Of the same number on every machine. Its flags lie in memory, so that it is not there where they
count; libraries go on with the older one.
"""

SET_MODE_FILTER: Final = 1
NEW_LISTENER, WAIT_KILLABLE = 1 << 3, 1 << 5


class Machine(NamedTuple):
    """The numbers of the calls."""

    arch: int
    seccomp: int
    socket: int
    socketpair: int
    connect: int
    ioctl: int
    clone: int
    unshare: int
    gone: Sequence[int]
    """Answered as if the kernel had none of them."""
    has_x32: bool


MACHINES: Final = {
    "x86_64": Machine(
        *(0xC000_003E, 317, 41, 53, 42, 16, 56, 272),
        (425, 426, 427, 248, 249, 250, 321, 298, 323, 103),
        has_x32=True,
    ),  # io_uring_*, add_key, request_key, keyctl, bpf, perf_event_open, userfaultfd, syslog
    "aarch64": Machine(
        *(0xC000_00B7, 277, 198, 199, 203, 29, 220, 97),
        (425, 426, 427, 217, 218, 219, 280, 241, 282, 116),
        has_x32=False,
    ),
}


class UnknownMachine(Exception):
    """No filter can be written for this machine; `sentence` says so."""

    def __init__(self, machine: str) -> None:
        self.sentence = f"the calls of this machine ({machine}) are not known, so none can be closed: modelplex run is for {' and '.join(MACHINES)}."
        super().__init__(self.sentence)


def machine() -> Machine:
    """This machine's numbers. Raises UnknownMachine."""
    name = os.uname().machine
    if name not in MACHINES:
        raise UnknownMachine(name)
    return MACHINES[name]


def program(of: Machine, *, netlink: bool, users: bool) -> bytes:
    """The filter, as the kernel reads it: 8 bytes an instruction. `users`: whether user namespaces
    may be made.
    """
    lines: list[tuple[int, int, int, int]] = [
        _load(ARCH_AT),
        (EQUAL, 1, 0, of.arch),
        _return(KILL),
        _load(NUMBER_AT),
    ]
    if of.has_x32:
        lines += [(AT_LEAST, 0, 1, X32_BIT), _refuse(errno.ENOSYS)]
    for number in of.gone:
        lines += _if(number, [_refuse(errno.ENOSYS)])
    if not users:
        lines += _if(CLONE3, [_refuse(errno.ENOSYS)])
        for number in (of.clone, of.unshare):
            lines += _if(number, _no_users())
    lines += _if(of.connect, [_return(NOTIFY)])
    lines += _if(of.ioctl, _typing())
    lines += _if(of.socketpair, [_argument(0), *_if(UNIX, _unix_kinds()), _refuse(errno.EAFNOSUPPORT)])
    lines += _if(of.socket, _families(netlink=netlink))
    lines.append(_return(ALLOW))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _families(*, netlink: bool) -> list[tuple[int, int, int, int]]:
    lines = [_argument(0), *_if(UNIX, _unix_kinds())]
    for family in (INET, INET6):
        lines += _if(family, [*_kinds(STREAM, DATAGRAM), _refuse(errno.EPERM)])
    if netlink:
        lines += _if(NETLINK, [_argument(2), *_if(ROUTE, [_return(ALLOW)]), _refuse(errno.EPROTONOSUPPORT)])
    return [*lines, _refuse(errno.EAFNOSUPPORT)]


def _unix_kinds() -> list[tuple[int, int, int, int]]:
    return [*_kinds(STREAM, PACKETS_IN_ORDER), _refuse(errno.EPROTONOSUPPORT)]


def _kinds(*allowed: int) -> list[tuple[int, int, int, int]]:
    lines = [_argument(1), (AND, 0, 0, TYPE_MASK)]
    for kind in allowed:
        lines += _if(kind, [_return(ALLOW)])
    return lines


def _no_users() -> list[tuple[int, int, int, int]]:
    return [_argument(0), (ANY_OF, 0, 1, NEW_USER), _refuse(errno.EPERM), _return(ALLOW)]


def _typing() -> list[tuple[int, int, int, int]]:
    lines = [_argument(1)]
    for request in (TIOCSTI, TIOCLINUX):
        lines += _if(request, [_refuse(errno.EPERM)])
    return [*lines, _return(ALLOW)]


def _load(offset: int) -> tuple[int, int, int, int]:
    return LOAD, 0, 0, offset


def _argument(index: int) -> tuple[int, int, int, int]:
    """The low half of an argument: all that the kernel reads of an int."""
    return _load(16 + 8 * index)


def _return(action: int) -> tuple[int, int, int, int]:
    return RETURN, 0, 0, action


def _refuse(code: int) -> tuple[int, int, int, int]:
    return _return(ERRNO | code)


def _if(value: int, then: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """These lines where what was loaded is this value; every one of them ends in a return, so that
    nothing has to be loaded again.
    """
    return [(EQUAL, 0, len(then), value), *then]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("lines", ctypes.c_char_p))


def install(code: bytes) -> int:
    """Put the filter before every later call of this thread and its children. Returns the
    descriptor at which `connect` is asked for. Raises OSError.
    """
    of = machine()
    program_ = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    fault = 0
    # The second flag (Linux 5.19) keeps a signal from ending a call that the supervisor has begun
    # to answer, which would make it twice.
    for flags in (NEW_LISTENER | WAIT_KILLABLE, NEW_LISTENER):
        result = int(
            libc.syscall(
                ctypes.c_long(of.seccomp),
                ctypes.c_long(SET_MODE_FILTER),
                ctypes.c_long(flags),
                ctypes.byref(program_),
            )
        )
        if result >= 0:
            return result
        fault = ctypes.get_errno()
        if fault != errno.EINVAL:
            break
    raise OSError(fault, os.strerror(fault), "seccomp")
