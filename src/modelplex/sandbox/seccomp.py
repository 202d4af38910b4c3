"""The seccomp filter of a sandboxed program: `program` writes it in BPF, `install` loads it.

The rules, and why:

- `socket` makes AF_UNIX, AF_INET and AF_INET6: AF_VSOCK belongs to no network namespace, and
  reaches the hypervisor.
- A socket of routing netlink is made by the supervisor (connects.py), so that it only reads: the
  kernel checks the capabilities of who made it too. `netlink` allows whole ones.
- AF_INET: only streams and datagrams. Raw and packet sockets need a capability besides, and other
  types load modules.
- AF_UNIX: only SOCK_STREAM and SOCK_SEQPACKET. A datagram has its receiver in memory, which a
  filter cannot read. The supervisor answers for pairs of datagram sockets.
- `connect` is made by the supervisor, since its address is in memory too. `listen` tells it which
  sockets are the sandbox's own.
- `kill` of the caller's own process group is made by the supervisor: the group may be that of the
  user's shell job, `modelplex run` included, which would end without its report.
- No file gets the setuid bit: on the host, where the folder is not mounted without it, any other
  user could run it as this one. openat2 has its mode in memory, and is missing. systemd's
  RestrictSUIDSGID= does the same.
- For root, which has no capabilities here, changes of a file's owner do nothing and succeed:
  otherwise `tar` and `cp -a` would fail, which change owners where they run as root.
- io_uring bypasses the filter. Key rings and terminal injection (TIOCSTI) reach outside the
  sandbox; so may the kernel log and performance counters. With bpf and userfaultfd they are the
  usual way to exploit the kernel.
- Root makes no user namespace: with its capabilities it could mount the host's control groups,
  whose files belong to its uid.
- Calls with the numbers of another architecture (32-bit, x32) would bypass the filter.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from modelplex.confinement.bpf import (
    ALLOW,
    AND,
    ANY_OF,
    NOTIFY,
    Instruction,
    argument,
    encode,
    if_equal,
    no_typing,
    prologue,
    refuse,
    return_,
)
from modelplex.confinement.system_calls import set_filter
from modelplex.sandbox.errors import UnknownMachine

TYPE_MASK: Final = 0xF
"""The type of a socket without SOCK_CLOEXEC and SOCK_NONBLOCK."""
STREAM, DATAGRAM, SEQPACKET = 1, 2, 5
UNIX, INET, INET6, NETLINK = 1, 2, 10, 16
ROUTE: Final = 0
OWN_GROUP: Final = 0
"""In place of a process, for kill(2)."""
NEW_USER: Final = 0x1000_0000
SETUID: Final = 0o4000
MAKES_FILE: Final = 0o100 | 0o20000000
"""O_CREAT and __O_TMPFILE."""
CLONE3: Final = 435
"""On all architectures. Its flags are in memory, so it is refused as missing where they matter;
libraries fall back to clone.
"""

NEW_LISTENER, WAIT_KILLABLE = 1 << 3, 1 << 5


class Machine(NamedTuple):
    """Numbers of system calls. `missing` fail with ENOSYS."""

    arch: int
    socket: int
    socketpair: int
    connect: int
    listen: int
    kill: int
    ioctl: int
    clone: int
    unshare: int
    missing: Sequence[int]
    owners: Sequence[int]
    """chown and its relatives."""
    modes: Mapping[int, int]
    """Calls that give a file a mode, and the argument that has it."""
    opens: Mapping[int, int]
    """Calls that may make a file, and the argument with their flags; the mode follows it."""
    has_x32: bool


MACHINES: Final = {
    "x86_64": Machine(
        *(0xC000_003E, 41, 53, 42, 50, 62, 16, 56, 272),
        (425, 426, 427, 248, 249, 250, 321, 298, 323, 103, 437),
        (92, 93, 94, 260),
        {90: 1, 91: 1, 268: 2, 452: 2, 133: 1, 259: 2, 85: 1},
        {2: 1, 257: 2},
        has_x32=True,
    ),  # io_uring_*, add_key, request_key, keyctl, bpf, perf_event_open, userfaultfd, syslog, openat2
    "aarch64": Machine(
        *(0xC000_00B7, 198, 199, 203, 201, 129, 29, 220, 97),
        (425, 426, 427, 217, 218, 219, 280, 241, 282, 116, 437),
        (54, 55),
        {52: 1, 53: 2, 452: 2, 33: 2},
        {56: 2},
        has_x32=False,
    ),
}


def machine() -> Machine:
    """This machine's numbers. Raises UnknownMachine."""
    name = os.uname().machine
    if name not in MACHINES:
        raise UnknownMachine(
            f"modelplex run supports {' and '.join(MACHINES)}: the system calls of this machine ({name}) are not known."
        )
    return MACHINES[name]


def program(of: Machine, *, netlink: bool, users: bool) -> bytes:
    """The filter in BPF: 8 bytes an instruction. `users` allows new user namespaces, for all but
    root.
    """
    lines = prologue(of.arch, has_x32=of.has_x32)
    for number in of.missing:
        lines += if_equal(number, [refuse(errno.ENOSYS)])
    if not users:
        lines += if_equal(CLONE3, [refuse(errno.ENOSYS)])
        for number in (of.clone, of.unshare):
            lines += if_equal(number, _no_users())
        for number in of.owners:
            lines += if_equal(number, [refuse(0)])
    for number in (of.connect, of.listen):
        lines += if_equal(number, [return_(NOTIFY)])
    lines += if_equal(of.kill, [argument(0), *if_equal(OWN_GROUP, [return_(NOTIFY)]), return_(ALLOW)])
    for number, at in of.modes.items():
        lines += if_equal(number, _without_setuid(at))
    for number, at in of.opens.items():
        lines += if_equal(
            number, [argument(at), (ANY_OF, 1, 0, MAKES_FILE), return_(ALLOW), *_without_setuid(at + 1)]
        )
    lines += if_equal(of.ioctl, no_typing())
    lines += if_equal(of.socketpair, _pairs())
    lines += if_equal(of.socket, _families(netlink=netlink))
    lines.append(return_(ALLOW))
    return encode(lines)


def _families(*, netlink: bool) -> list[Instruction]:
    lines = [argument(0), *if_equal(UNIX, [*_kinds(STREAM, SEQPACKET), refuse(errno.EPROTONOSUPPORT)])]
    for family in (INET, INET6):
        lines += if_equal(family, [*_kinds(STREAM, DATAGRAM), refuse(errno.EPERM)])
    allowed = if_equal(ROUTE, [return_(ALLOW if netlink else NOTIFY)])
    lines += if_equal(NETLINK, [argument(2), *allowed, refuse(errno.EPROTONOSUPPORT)])
    return [*lines, refuse(errno.EAFNOSUPPORT)]


def _pairs() -> list[Instruction]:
    kinds = [
        *_kinds(STREAM, SEQPACKET),
        *if_equal(DATAGRAM, [return_(NOTIFY)]),
        refuse(errno.EPROTONOSUPPORT),
    ]
    return [argument(0), *if_equal(UNIX, kinds), refuse(errno.EAFNOSUPPORT)]


def _kinds(*allowed: int) -> list[Instruction]:
    lines = [argument(1), (AND, 0, 0, TYPE_MASK)]
    for kind in allowed:
        lines += if_equal(kind, [return_(ALLOW)])
    return lines


def _without_setuid(at: int) -> list[Instruction]:
    return [argument(at), (ANY_OF, 0, 1, SETUID), refuse(errno.EPERM), return_(ALLOW)]


def _no_users() -> list[Instruction]:
    return [argument(0), (ANY_OF, 0, 1, NEW_USER), refuse(errno.EPERM), return_(ALLOW)]


def install(code: bytes) -> int:
    """Filter all later calls of this thread and its children. Returns the descriptor on which the
    supervisor receives calls. Raises OSError.
    """
    # WAIT_KILLABLE (Linux 5.19): otherwise a signal restarts a call that the supervisor is
    # answering, which makes it twice.
    try:
        return set_filter(code, NEW_LISTENER | WAIT_KILLABLE)
    except OSError as fault:
        if fault.errno != errno.EINVAL:
            raise
    return set_filter(code, NEW_LISTENER)
