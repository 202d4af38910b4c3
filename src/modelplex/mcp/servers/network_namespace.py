"""Enters an empty network namespace and executes a command:
`python -I -S network_namespace.py COMMAND ARG...`, COMMAND with its whole path.

A program of its own, since no Python code may run between fork and exec in a process with threads.
The command keeps its pid, session and streams. `lo` is up, since a server may connect to itself.
Source: unshare(2), user_namespaces(7), netdevice(7).
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys

EXIT_NO_NAMESPACE = 96
"""The exit status if there can be no namespace; stderr has the reason. No convention uses this
number.
"""
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1


def enter() -> None:
    """Raises OSError if the system does not allow user namespaces."""
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib starts slowly
            file.write(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", flags | IFF_UP, b""))


def main() -> None:
    try:
        enter()
    except (OSError, AttributeError) as error:
        sys.stderr.write(f"modelplex: cannot create an empty network namespace: {error}\n")
        sys.exit(EXIT_NO_NAMESPACE)
    try:
        os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell is intended
    except OSError as error:
        sys.stderr.write(f"modelplex: cannot start {sys.argv[1]}: {error}\n")
        sys.exit(127)


if __name__ == "__main__":
    main()
