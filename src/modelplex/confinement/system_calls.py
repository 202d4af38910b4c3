"""The system calls of seccomp(2) and landlock(7), which Python lacks. Each raises OSError.

Sources: prctl(2), capset(2), seccomp(2),
https://docs.kernel.org/userspace-api/landlock.html (ABI 7).
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final

from modelplex.confinement.bpf import ERRNO

PR_SET_NO_NEW_PRIVS: Final = 38
CAPABILITY_VERSION: Final = 0x2008_0522
CAPABILITY_BYTES: Final = 24
SECCOMP: Final = {"x86_64": 317, "aarch64": 277}
"""By machine. Those of Landlock are the same on all."""
SET_MODE_FILTER: Final = 1
ASK_ACTION: Final = 2
ALL_THREADS: Final = 1
"""SECCOMP_FILTER_FLAG_TSYNC"""
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
ASK_VERSION: Final = 1
PATH_BENEATH, NET_PORT = 1, 2


def call(name: str, number: int, *arguments: int) -> int:
    """A system call with numbers as arguments. Raises OSError with its name."""
    return _call(name, number, *map(_word, arguments))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("lines", ctypes.c_char_p))


def _call(name: str, number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return _checked(name, int(libc.syscall(ctypes.c_long(number), *arguments)))


def _checked(name: str, result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
    return result


def _word(number: int) -> ctypes.c_long:
    return ctypes.c_long(number)


def forbid_new_privileges() -> None:
    """No program that is executed from here gets more rights than its caller. Permanent."""
    libc = ctypes.CDLL(None, use_errno=True)
    one, zero = ctypes.c_ulong(1), ctypes.c_ulong(0)
    _checked("prctl", libc.prctl(PR_SET_NO_NEW_PRIVS, one, zero, zero, zero))


def effective_capabilities() -> int:
    """The bits of this thread's capabilities."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", CAPABILITY_VERSION, 0), 8)
    data = ctypes.create_string_buffer(CAPABILITY_BYTES)
    _checked("capget", ctypes.CDLL(None, use_errno=True).capget(header, data))
    low, _, _, high, _, _ = struct.unpack("=6I", data.raw)
    return int(low | high << 32)


def keep_capabilities(kept: int) -> None:
    """Give up all capabilities of this thread, and of those it starts later, but these bits."""
    kept &= effective_capabilities()
    low, high = kept & 0xFFFF_FFFF, kept >> 32
    header = ctypes.create_string_buffer(struct.pack("=Ii", CAPABILITY_VERSION, 0), 8)
    data = struct.pack("=6I", low, low, 0, high, high, 0)
    _checked("capset", ctypes.CDLL(None, use_errno=True).capset(header, data))


def filter_calls(code: bytes) -> None:
    """Filter the calls of all threads of this process, and of those it makes later. `code` is a
    filter in BPF, 8 bytes an instruction.
    """
    if stuck := set_filter(code, ALL_THREADS):
        raise OSError(0, f"thread {stuck} has another filter", "seccomp")


def set_filter(code: bytes, flags: int) -> int:
    """Filter the calls of this thread, and of those it starts later, and what `flags` say besides
    (SECCOMP_FILTER_FLAG_*). Returns what seccomp(2) does.
    """
    program = _Program(len(code) // 8, code)
    number = SECCOMP[os.uname().machine]
    return _call("seccomp", number, _word(SET_MODE_FILTER), _word(flags), ctypes.byref(program))


def can_filter() -> bool:
    """Whether the kernel has filters of system calls (SECCOMP_GET_ACTION_AVAIL)."""
    try:
        _call("seccomp", SECCOMP[os.uname().machine], _word(ASK_ACTION), _word(0), struct.pack("=I", ERRNO))
    except (OSError, KeyError):
        return False
    return True


def landlock_version() -> int:
    """The ABI of this kernel's Landlock; 0 where it has none, or where it is turned off."""
    try:
        return _call("landlock_create_ruleset", CREATE_RULESET, None, _word(0), _word(ASK_VERSION))
    except OSError:
        return 0


def new_ruleset(*, files: int, ports: int, scopes: int) -> int:
    """A descriptor of an empty ruleset that refuses these rights. Each is a set of bits; 0 is one
    that an older kernel does not know.
    """
    attributes = struct.pack("=QQQ", files, ports, scopes)
    while len(attributes) > 8 and attributes[-8:] == bytes(8):
        attributes = attributes[:-8]
    return _call("landlock_create_ruleset", CREATE_RULESET, attributes, _word(len(attributes)), _word(0))


def allow_path(ruleset: int, descriptor: int, rights: int) -> None:
    """Allow these rights at an open path (O_PATH), and at all below a folder."""
    rule = struct.pack("=Qi", rights, descriptor)
    _call("landlock_add_rule", ADD_RULE, _word(ruleset), _word(PATH_BENEATH), rule, _word(0))


def allow_port(ruleset: int, port: int, rights: int) -> None:
    rule = struct.pack("=QQ", rights, port)
    _call("landlock_add_rule", ADD_RULE, _word(ruleset), _word(NET_PORT), rule, _word(0))


def restrict_thread(ruleset: int) -> None:
    """This thread, and those it starts later. Permanent."""
    _call("landlock_restrict_self", RESTRICT_SELF, _word(ruleset), _word(0))
