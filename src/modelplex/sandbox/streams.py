"""Checks the standard streams that a sandboxed program inherits."""

from __future__ import annotations

import os
import socket
import stat
from typing import Final

from modelplex.sandbox import kernel
from modelplex.sandbox.errors import CannotRun
from modelplex.sandbox.folders import has_path, is_read_only

MEMORY_DEVICES: Final = 1
"""The major number of /dev/null and its like."""
KERNEL_FILE_SYSTEMS: Final = frozenset(
    {
        *(0x9FA0, 0x6265_6572, 0x6E73_6673, 0x27_E0EB, 0x6367_7270),  # proc, sysfs, nsfs, cgroup, cgroup2
        *(0x6462_6720, 0x7472_6163, 0xCAFE_4A11, 0x7363_6673),  # debugfs, tracefs, bpf, securityfs
        *(0xF97C_FF8C, 0x4341_5D53, 0x6165_676C, 0xDE5E_81E4),  # selinuxfs, smackfs, pstore, efivarfs
        *(0x6265_6570, 0x4249_4E4D, 0x0765_5821, 0x1980_0202),  # configfs, binfmt_misc, resctrl, mqueue
        *(0x5049_4446, 0x0904_1934, 0x9FA1, 0x9FA2),  # pidfs, anonymous inodes, openprom, usbdevice
        0x6573_5543,  # fusectl
        *(0x6E66_7364, 0xABBA_1974, 0x444D_4142, 0x474D_454D),  # nfsd, xenfs, dma-buf, guest memory
    }
)
"""File systems without storage, by the magic numbers of linux/magic.h."""
STORAGE_WITHOUT_SIZE: Final = frozenset(
    {0x0102_1994, 0x8584_58F6, 0x9584_58F6, 0x6573_5546, 0x0102_1997, 0x6969, 0xFF53_4D42, 0xFE53_4D42}
)
"""tmpfs, ramfs, hugetlbfs, FUSE, 9p, NFS, CIFS, SMB 2: they hold data, and some report no size."""
HARMLESS_DEVICES: Final = (3, 5, 7, 8, 9)
"""The minor numbers of /dev/null, zero, full, random and urandom."""


def check_streams() -> None:
    """Raises CannotRun where a standard stream is a socket, folder or device by which the program
    could leave the sandbox.
    """
    for number, name in enumerate(("input", "output", "error")):
        # A closed one is /dev/null by now. Children must inherit it, or their next file would get
        # its number.
        os.set_inheritable(number, True)
        facts = os.fstat(number)
        mode = facts.st_mode
        if stat.S_ISDIR(mode):
            raise CannotRun(
                f"standard {name} is a folder, through which the program would see the host's files."
            )
        if stat.S_ISSOCK(mode) and not _is_harmless(number):
            raise CannotRun(
                f"standard {name} is a socket that could reach the host's network: use a pipe or a file."
            )
        is_file = stat.S_ISREG(mode)
        if not (
            (is_file and not _is_kernel_file(number))
            or stat.S_ISFIFO(mode)
            or stat.S_ISSOCK(mode)
            or _is_stream(number, facts)
        ):
            raise CannotRun(
                f"standard {name} is {_name_of(number)}, by which the program might leave the sandbox: use a pipe or a file."
            )
        if is_file and is_read_only(number) and not has_path(number):
            raise CannotRun(
                f"standard {name} is a file that is not at {_name_of(number)} for this user, so it cannot be made read-only: use a pipe."
            )


def _is_kernel_file(number: int) -> bool:
    """Whether a file is an interface of the kernel, as those of /proc and /sys are. Decided by its
    file system; an unknown one without a size counts as the kernel's.
    """
    kind = kernel.file_system(number)
    return kind in KERNEL_FILE_SYSTEMS or (
        kind not in STORAGE_WITHOUT_SIZE and os.fstatvfs(number).f_blocks == 0
    )


def _is_stream(number: int, facts: os.stat_result) -> bool:
    """A terminal or a harmless device; not a network (/dev/net/tun), a disk, or memory."""
    if not stat.S_ISCHR(facts.st_mode):
        return False
    return os.isatty(number) or (
        os.major(facts.st_rdev) == MEMORY_DEVICES and os.minor(facts.st_rdev) in HARMLESS_DEVICES
    )


def _name_of(number: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115 - text, not a path
    except OSError:
        return "of an unknown kind"


def _is_harmless(number: int) -> bool:
    """A connected stream of AF_UNIX, which reaches one peer only."""
    with socket.socket(fileno=os.dup(number)) as copy:
        try:
            copy.getpeername()
        except OSError:
            return False
        return copy.family == socket.AF_UNIX and copy.type == socket.SOCK_STREAM
