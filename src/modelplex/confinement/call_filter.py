"""The seccomp filter of a gateway. It refuses what a gateway never does itself, with EPERM:

- to start a process or a program: programs are started by the launcher (launcher.py);
- to make a namespace, to enter one, to mount, or to change the machine;
- to read or control another process;
- the usual ways to exploit the kernel: bpf, userfaultfd, io_uring, performance events, key rings;
- sockets other than TCP, UDP and those that the resolver needs; terminal injection;
- after the start, also to listen (a TCP socket gets a port without `bind`), and to make a Unix
  socket: the launcher does both, for the paths of the config. Landlock has no rule for connecting
  to a Unix socket, and some, such as Docker's, start programs.

Numbers: asm/unistd_64.h of x86, asm-generic/unistd.h of Linux 6.18.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Final, NamedTuple

from modelplex.confinement.bpf import (
    ALLOW,
    AND,
    ANY_OF,
    Instruction,
    argument,
    encode,
    if_equal,
    no_typing,
    prologue,
    refuse,
    return_,
)

UNIX, INET, INET6, NETLINK, VSOCK = 1, 2, 10, 16, 40
STREAM, DATAGRAM = 1, 2
TYPE_MASK: Final = 0xF
THREAD: Final = 0x0001_0000
"""CLONE_THREAD"""
CLONE3: Final = 435
"""Its flags are in memory. As missing, libraries fall back to clone."""
COMMON: Final = (425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 440, 442, 443)
"""With one number on all machines: io_uring_setup, _enter, _register, open_tree, move_mount,
fsopen, fsconfig, fsmount, fspick, pidfd_getfd, process_madvise, mount_setattr, quotactl_fd.
"""


class CallNumbers(NamedTuple):
    """Numbers of system calls. `refused` are those besides COMMON."""

    arch: int
    has_x32: bool
    clone: int
    socket: int
    listen: int
    ioctl: int
    refused: Sequence[int]


MACHINES: Final = {
    "x86_64": CallNumbers(
        *(0xC000_003E, True, 56, 41, 50, 16),
        (
            *(57, 58, 59, 322),  # fork, vfork, execve, execveat
            *(101, 310, 311, 312),  # ptrace, process_vm_readv, process_vm_writev, kcmp
            *(165, 166, 155, 161, 272, 308),  # mount, umount2, pivot_root, chroot, unshare, setns
            *(
                321,
                323,
                298,
                248,
                249,
                250,
            ),  # bpf, userfaultfd, perf_event_open, add_key, request_key, keyctl
            *(
                246,
                320,
                175,
                313,
                176,
            ),  # kexec_load, kexec_file_load, init_module, finit_module, delete_module
            *(304, 103, 163, 167, 168, 169),  # open_by_handle_at, syslog, acct, swapon, swapoff, reboot
            *(164, 227, 159, 305, 170, 171),  # settimeofday, clock_settime, adjtimex, clock_adjtime, set*name
            *(172, 173, 179, 133, 259, 300),  # iopl, ioperm, quotactl, mknod, mknodat, fanotify_init
        ),
    ),
    "aarch64": CallNumbers(
        *(0xC000_00B7, False, 220, 198, 201, 29),
        (
            *(221, 281),
            *(117, 270, 271, 272),
            *(40, 39, 41, 51, 97, 268),
            *(280, 282, 241, 217, 218, 219),
            *(104, 294, 105, 273, 106),
            *(265, 116, 89, 224, 225, 142),
            *(170, 112, 171, 266, 161, 162),
            *(60, 33, 262),
        ),
    ),
}


def machine() -> CallNumbers | None:
    """This machine's numbers; None where they are not known."""
    return MACHINES.get(os.uname().machine)


def at_start(of: CallNumbers) -> bytes:
    """In BPF, before the first thread: sockets may be made and listened on."""
    lines = prologue(of.arch, has_x32=of.has_x32)
    for number in (*of.refused, *COMMON):
        lines += if_equal(number, [refuse(errno.EPERM)])
    lines += if_equal(CLONE3, [refuse(errno.ENOSYS)])
    lines += if_equal(of.clone, [argument(0), (ANY_OF, 1, 0, THREAD), refuse(errno.EPERM), return_(ALLOW)])
    lines += if_equal(of.ioctl, no_typing())
    lines += if_equal(of.socket, _families(UNIX, INET, INET6, NETLINK, VSOCK))
    return encode([*lines, return_(ALLOW)])


def once_serving(of: CallNumbers, *, unix: bool) -> bytes:
    """In BPF, after the start, besides the first one. `listen` does nothing and succeeds: event
    loops call it for sockets on which the launcher listens already. `unix` allows Unix sockets.
    """
    lines = prologue(of.arch, has_x32=of.has_x32)
    lines += if_equal(of.listen, [refuse(0)])
    lines += if_equal(of.socket, _families(*([UNIX] if unix else []), INET, INET6, NETLINK))
    return encode([*lines, return_(ALLOW)])


def _families(*allowed: int) -> list[Instruction]:
    """Of these families, streams and datagrams. Routing netlink is raw, and only reads what the
    capabilities of the process allow to change.
    """
    lines = [argument(0)]
    for family in allowed:
        lines += if_equal(family, [return_(ALLOW)] if family == NETLINK else _streams_and_datagrams())
    return [*lines, refuse(errno.EPERM)]


def _streams_and_datagrams() -> list[Instruction]:
    lines = [argument(1), (AND, 0, 0, TYPE_MASK)]
    for kind in (STREAM, DATAGRAM):
        lines += if_equal(kind, [return_(ALLOW)])
    return [*lines, refuse(errno.EPERM)]
