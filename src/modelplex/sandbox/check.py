"""`modelplex run --check`: tries from inside a sandbox every way out that must be closed, and the
gateway. Prints a line for each; the status is 1 where one fails.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from modelplex.sandbox.folders import SOCKET

TIMEOUT_S: Final = 5.0
OUTSIDE: Final = (("1.1.1.1", 443), ("169.254.169.254", 80))
"""A public address, and the metadata service of clouds."""
IO_URING_SETUP: Final = 425
REQUEST: Final = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


class CheckFailed(Exception):
    """A way out is open, or the gateway is not reachable."""


def main(_arguments: Sequence[str] = ()) -> int:
    ok = True
    for name, check in CHECKS.items():
        try:
            result = check()
        except (CheckFailed, OSError) as fault:
            ok = False
            result = f"FAILED: {fault}"
        sys.stdout.write(f"{name}: {result}\n")
    sys.stdout.flush()
    return 0 if ok else 1


def refused(attempt: Callable[[], object], *codes: int) -> str:
    """The system's error text. Raises CheckFailed where the attempt succeeds, or fails with another
    errno than `codes`.
    """
    try:
        attempt()
    except OSError as fault:
        if codes and fault.errno not in codes:
            raise CheckFailed(f"it fails with another error: {fault}") from None
        return fault.strerror or str(fault)
    raise CheckFailed("it works")


def interfaces() -> str:
    # /sys/class/net may still show the host's.
    found = {row.split(":")[0].strip() for row in Path("/proc/net/dev").read_text().splitlines()[2:]}
    if found != {"lo"}:
        raise CheckFailed(", ".join(sorted(found)))
    return "lo and no other"


def routes() -> str:
    rows = Path("/proc/net/route").read_text().splitlines()[1:]
    with suppress(FileNotFoundError):
        rows += [
            row for row in Path("/proc/net/ipv6_route").read_text().splitlines() if not row.endswith("lo")
        ]
    if rows:
        raise CheckFailed(rows[0])
    return "none"


def tcp() -> str:
    public, metadata = OUTSIDE
    refused(lambda: socket.create_connection(public, TIMEOUT_S), errno.ENETUNREACH)
    return refused(lambda: socket.create_connection(metadata, TIMEOUT_S), errno.ENETUNREACH)


def udp() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        return refused(lambda: sender.sendto(b"x", OUTSIDE[0]), errno.ENETUNREACH)


def names() -> str:
    try:
        socket.getaddrinfo("example.com", 443)
    except socket.gaierror as fault:
        return fault.strerror or str(fault)
    raise CheckFailed("example.com has an address")


def family(number: int, kind: int, *codes: int) -> Callable[[], str]:
    def check() -> str:
        return refused(lambda: socket.socket(number, kind).close(), *codes)

    return check


def io_uring() -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    made = libc.syscall(ctypes.c_long(IO_URING_SETUP), ctypes.c_long(1), ctypes.create_string_buffer(120))
    if made >= 0 or ctypes.get_errno() != errno.ENOSYS:
        raise CheckFailed("it is available")
    return os.strerror(errno.ENOSYS)


def capabilities() -> str:
    rows = dict(row.split(":\t", 1) for row in Path("/proc/self/status").read_text().splitlines())
    held = [name for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb") if int(rows[name], 16)]
    if held or rows["NoNewPrivs"] != "1" or rows["Seccomp"] != "2":
        raise CheckFailed(f"{held}, NoNewPrivs {rows['NoNewPrivs']}, Seccomp {rows['Seccomp']}")
    return "none, and none can be gained"


def environment_of_first() -> str:
    try:
        found = Path("/proc/1/environ").read_bytes()
    except PermissionError as fault:
        return fault.strerror or str(fault)
    if found:
        raise CheckFailed(f"it holds {len(found)} bytes")
    return "empty"


def descriptors() -> str:
    found = sorted(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208
    for number in found:
        with suppress(OSError):
            if number > 2 and not os.readlink(f"/proc/self/fd/{number}").endswith("/fd"):  # noqa: PTH115
                raise CheckFailed(f"descriptor {number} is open")
    return "0, 1 and 2"


def gateway(family: int, address: str | tuple[str, int]) -> Callable[[], str]:
    def check() -> str:
        with socket.socket(family, socket.SOCK_STREAM) as client:
            client.settimeout(TIMEOUT_S)
            client.connect(address)
            client.sendall(REQUEST)
            response = client.recv(4096)
        if not response.startswith(b"HTTP/1.1 200"):
            raise CheckFailed(repr(response[:40]))
        return "reachable"

    return check


CHECKS: Final[dict[str, Callable[[], str]]] = {
    "interfaces": interfaces,
    "routes": routes,
    "TCP to the outside": tcp,
    "UDP to the outside": udp,
    "names": names,
    "AF_VSOCK": family(socket.AF_VSOCK, socket.SOCK_STREAM, errno.EAFNOSUPPORT),
    "packet sockets": family(socket.AF_PACKET, socket.SOCK_RAW, errno.EAFNOSUPPORT),
    "raw sockets": family(socket.AF_INET, socket.SOCK_RAW, errno.EPERM),
    "io_uring": io_uring,
    "capabilities": capabilities,
    "/proc/1/environ": environment_of_first,
    "descriptors": descriptors,
    "the gateway at 127.0.0.1:11435": gateway(socket.AF_INET, ("127.0.0.1", 11435)),
    f"the gateway at {SOCKET}": gateway(socket.AF_UNIX, SOCKET),
}
