"""Filters of system calls in classic BPF, as seccomp(2) takes them: instructions and their bytes.

Source: https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from typing import Final, TypeAlias

ALLOW, KILL, NOTIFY, ERRNO = 0x7FFF_0000, 0x8000_0000, 0x7FC0_0000, 0x0005_0000
LOAD, EQUAL, AT_LEAST, ANY_OF, AND, RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
NUMBER_AT, ARCH_AT, ARGUMENTS_AT = 0, 4, 16
ARGUMENT_BYTES: Final = 8
X32_BIT: Final = 0x4000_0000
TIOCSTI, TIOCLINUX = 0x5412, 0x541C

Instruction: TypeAlias = tuple[int, int, int, int]
"""Opcode, jump if true, jump if false, operand."""


def load(offset: int) -> Instruction:
    return LOAD, 0, 0, offset


def argument(index: int) -> Instruction:
    """The low half of an argument, which is what the kernel reads of an int."""
    return load(ARGUMENTS_AT + ARGUMENT_BYTES * index)


def return_(action: int) -> Instruction:
    return RETURN, 0, 0, action


def refuse(code: int) -> Instruction:
    """`code` is an errno."""
    return return_(ERRNO | code)


def if_equal(value: int, then: Sequence[Instruction]) -> list[Instruction]:
    """These lines, which end in a return, where the loaded value is this one."""
    return [(EQUAL, 0, len(then), value), *then]


def prologue(arch: int, *, has_x32: bool) -> list[Instruction]:
    """Kill a call with the numbers of another architecture, refuse those of x32, and load the
    number.
    """
    lines: list[Instruction] = [load(ARCH_AT), (EQUAL, 1, 0, arch), return_(KILL), load(NUMBER_AT)]
    if has_x32:
        lines += [(AT_LEAST, 0, 1, X32_BIT), refuse(errno.ENOSYS)]
    return lines


def no_typing() -> list[Instruction]:
    """For ioctl: nothing can be typed into a terminal, which the user's shell would run."""
    lines = [argument(1)]
    for request in (TIOCSTI, TIOCLINUX):
        lines += if_equal(request, [refuse(errno.EPERM)])
    return [*lines, return_(ALLOW)]


def encode(lines: Sequence[Instruction]) -> bytes:
    """8 bytes an instruction, in the machine's byte order."""
    return b"".join(struct.pack("=HBBI", *line) for line in lines)
