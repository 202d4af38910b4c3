"""Enters an empty network namespace and executes the command of its arguments:
`python -I -S _network_namespace.py COMMAND ARG...`, COMMAND with its whole path.

A program of its own, since nothing should run between fork and exec in a process with threads. Its
pid, session and streams become the command's. Brings `lo` up, since a server may connect to itself.
Source: unshare(2), user_namespaces(7), netdevice(7).
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys

REFUSED = 96
"""The exit status if there can be no namespace; stderr has the reason. No convention uses this
number.
"""
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1


def leave() -> None:
    """Raises OSError if the system does not allow user namespaces."""
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123 - no pathlib: it starts slowly
            file.write(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(any_socket, SIOCGIFFLAGS, asked))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", flags | IFF_UP, b""))


def main() -> None:
    try:
        leave()
    except (OSError, AttributeError) as error:
        sys.stderr.write(f"modelplex: an empty network namespace could not be made: {error}\n")
        sys.exit(REFUSED)
    try:
        os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell is what is wanted
    except OSError as error:
        sys.stderr.write(f"modelplex: {sys.argv[1]} could not be started: {error}\n")
        sys.exit(127)


if __name__ == "__main__":
    main()
