"""An interpreter of the part of classic BPF that filters of system calls use."""

from __future__ import annotations

import struct


def verdict(code: bytes, number: int, *arguments: int, arch: int) -> int:
    """The action of a filter for a system call."""
    lines = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    words = struct.pack(
        "=iIQ6Q",
        number - (1 << 32) if number >> 31 else number,
        arch,
        0,
        *arguments,
        *[0] * (6 - len(arguments)),
    )
    at = accumulator = 0
    while True:
        operation, if_true, if_false, value = lines[at]
        at += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", words, value)
            case 0x54:
                accumulator &= value
            case 0x15:
                at += if_true if accumulator == value else if_false
            case 0x45:
                at += if_true if accumulator & value else if_false
            case 0x35:
                at += if_true if accumulator >= value else if_false
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(operation)
