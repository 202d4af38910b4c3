"""The seccomp filter of a gateway. It refuses what a gateway never does itself, with EPERM:

- to start a process or a program: programs are started by the launcher (launcher.py);
- to make a namespace, to enter one, to mount, or to change the machine;
- to read or control another process;
- the usual ways to exploit the kernel: bpf, userfaultfd, io_uring, performance events, key rings;
- sockets other than TCP, UDP and those that the resolver needs; terminal injection;
- what Landlock has no rule for: to change mode, owner, times or attributes of a file; shared
  memory, semaphores and queues of other processes, their limits and their scheduling (a limit of
  processor time of 0 is a kill); MPTCP, and data in a SYN (TCP Fast Open), which connect to any
  port; datagrams to any Unix socket, from a pair;
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
    EQUAL,
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
STREAM, DATAGRAM, PACKETS = 1, 2, 5
TYPE_MASK: Final = 0xF
ANY_PROTOCOL, TCP, UDP = 0, 6, 17
"""Not MPTCP (262), which Landlock does not take for TCP. Of netlink, 0 is routing."""
FAST_OPEN: Final = 0x2000_0000
"""MSG_FASTOPEN: `sendto` connects, and Landlock is not asked."""
THREAD: Final = 0x0001_0000
"""CLONE_THREAD"""
CLONE3: Final = 435
"""Its flags are in memory. As missing, libraries fall back to clone."""
COMMON: Final = (
    *(425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 440, 442, 443),
    *(452, 463, 466, 467, 469),
)
"""With one number on all machines: io_uring_setup, _enter, _register, open_tree, move_mount,
fsopen, fsconfig, fsmount, fspick, pidfd_getfd, process_madvise, mount_setattr, quotactl_fd;
fchmodat2, setxattrat, removexattrat, open_tree_attr, file_setattr.
"""


SENDING_FLAGS: Final = (3, 2, 3)
"""Which argument of sendto, sendmsg and sendmmsg has the flags."""


class CallNumbers(NamedTuple):
    """Numbers of system calls. `refused` are those besides COMMON; `sending` are sendto, sendmsg
    and sendmmsg.
    """

    arch: int
    has_x32: bool
    clone: int
    socket: int
    listen: int
    ioctl: int
    socketpair: int
    prlimit: int
    sending: tuple[int, int, int]
    refused: Sequence[int]


MACHINES: Final = {
    "x86_64": CallNumbers(
        *(0xC000_003E, True, 56, 41, 50, 16, 53, 302, (44, 46, 307)),
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
            *(90, 91, 268, 92, 93, 94, 260),  # chmod, fchmod, fchmodat, chown, fchown, lchown, fchownat
            *(188, 189, 190, 197, 198, 199),  # setxattr, lsetxattr, fsetxattr, and remove...
            *(132, 235, 261, 280),  # utime, utimes, futimesat, utimensat
            *(29, 30, 31, 64, 65, 66, 220),  # shmget, shmat, shmctl, semget, semop, semctl, semtimedop
            *(68, 69, 70, 71, 240, 241),  # msgget, msgsnd, msgrcv, msgctl, mq_open, mq_unlink
            *(141, 142, 144, 203, 314),  # setpriority, sched_setparam, _setscheduler, _setaffinity, _setattr
            *(251, 256, 279),  # ioprio_set, migrate_pages, move_pages
        ),
    ),
    "aarch64": CallNumbers(
        *(0xC000_00B7, False, 220, 198, 201, 29, 199, 261, (206, 211, 269)),
        (
            *(221, 281),
            *(117, 270, 271, 272),
            *(40, 39, 41, 51, 97, 268),
            *(280, 282, 241, 217, 218, 219),
            *(104, 294, 105, 273, 106),
            *(265, 116, 89, 224, 225, 142),
            *(170, 112, 171, 266, 161, 162),
            *(60, 33, 262),
            *(52, 53, 55, 54),
            *(5, 6, 7, 14, 15, 16),
            *(88,),
            *(194, 196, 195, 190, 193, 191, 192),
            *(186, 189, 188, 187, 180, 181),
            *(140, 118, 119, 122, 274),
            *(30, 238, 239),
        ),
    ),
}


def machine() -> CallNumbers | None:
    """This machine's numbers; None where they are not known."""
    return MACHINES.get(os.uname().machine)


def at_start(of: CallNumbers) -> bytes:
    """In BPF, before the first thread: sockets may be made and listened on."""
    lines = prologue(of.arch, has_x32=of.has_x32)
    for number, flags in zip(of.sending, SENDING_FLAGS, strict=True):  # first: they are called most
        lines += if_equal(number, _without(flags, FAST_OPEN))
    for number in (*of.refused, *COMMON):
        lines += if_equal(number, [refuse(errno.EPERM)])
    lines += if_equal(CLONE3, [refuse(errno.ENOSYS)])
    lines += if_equal(of.clone, [argument(0), (ANY_OF, 1, 0, THREAD), refuse(errno.EPERM), return_(ALLOW)])
    lines += if_equal(of.ioctl, no_typing())
    lines += if_equal(of.prlimit, _one_of(0, (0,)))  # of itself
    lines += if_equal(of.socketpair, _one_of(1, (STREAM, PACKETS), mask=TYPE_MASK))
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
    """Of these families, streams and datagrams of the usual protocols. Routing netlink is raw, and
    only reads what the capabilities of the process allow to change.
    """
    lines = [argument(0)]
    for family in allowed:
        of_family = _one_of(2, (0,)) if family == NETLINK else _streams_and_datagrams()
        lines += if_equal(family, of_family)
    return [*lines, refuse(errno.EPERM)]


def _streams_and_datagrams() -> list[Instruction]:
    protocols = _one_of(2, (ANY_PROTOCOL, TCP, UDP))
    lines = [argument(1), (AND, 0, 0, TYPE_MASK), (EQUAL, 2, 0, STREAM), (EQUAL, 1, 0, DATAGRAM)]
    return [*lines, refuse(errno.EPERM), *protocols]


def _one_of(index: int, values: Sequence[int], *, mask: int = 0xFFFF_FFFF) -> list[Instruction]:
    """Calls whose argument at `index` is one of these."""
    lines = [argument(index), (AND, 0, 0, mask)]
    for value in values:
        lines += if_equal(value, [return_(ALLOW)])
    return [*lines, refuse(errno.EPERM)]


def _without(index: int, flag: int) -> list[Instruction]:
    """Calls whose argument at `index` has not this flag."""
    return [argument(index), (ANY_OF, 0, 1, flag), refuse(errno.EPERM), return_(ALLOW)]
