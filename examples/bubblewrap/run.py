"""A command with no network but the gateway, by bubblewrap:

    python3 run.py SOCKET_FOLDER [BWRAP OPTIONS] -- COMMAND...

SOCKET_FOLDER holds modelplex.socket; the folder is mounted and not the file, so that a gateway that
starts anew is found again. The working folder is there and writable. What else the command needs is
an option of bwrap's, as `--ro-bind /opt/agent /opt/agent`. Standard library alone.
"""

from __future__ import annotations

import errno
import os
import platform
import socket
import struct
import sys
import tempfile
from pathlib import Path

BRIDGE = Path(__file__).resolve().parents[2] / "src" / "modelplex" / "sandbox" / "bridge.py"

LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER_AT, ARCH_AT, FIRST_ARGUMENT_AT = 0, 4, 16
ARCHES = {"x86_64": (0xC000003E, 41, 53), "aarch64": (0xC00000B7, 198, 199)}
"""The machine's name in an audit, and its numbers of socket() and socketpair()."""
X32 = 0x40000000
IO_URING = (425, 426, 427)


def seccomp() -> bytes:
    """Namespaces cover neither AF_VSOCK nor what io_uring opens: sockets of the families Unix, INET
    and INET6 alone, and no io_uring.
    """
    arch, make_socket, make_pair = ARCHES[platform.machine()]
    lines = [
        (LOAD, 0, 0, ARCH_AT),
        (EQUAL, 1, 0, arch),
        (RETURN, 0, 0, KILL),  # the 32-bit entry has numbers of its own
        (LOAD, 0, 0, NUMBER_AT),
        (AT_LEAST, 0, 1, X32),
        (RETURN, 0, 0, ERRNO | errno.ENOSYS),
    ]
    for number in IO_URING:
        lines += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ERRNO | errno.ENOSYS)]
    lines += [
        (EQUAL, 2, 0, make_socket),
        (EQUAL, 1, 0, make_pair),
        (RETURN, 0, 0, ALLOW),
        (LOAD, 0, 0, FIRST_ARGUMENT_AT),
    ]
    for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
        lines += [(EQUAL, 0, 1, family), (RETURN, 0, 0, ALLOW)]
    lines.append((RETURN, 0, 0, ERRNO | errno.EAFNOSUPPORT))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def options(folder: Path, *, filter_at: int) -> list[str]:
    here = str(Path.cwd())
    merged = [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")]
    links = [
        word for name, to in merged if Path("/", name).is_symlink() for word in ("--symlink", to, f"/{name}")
    ]
    return [
        *("--unshare-all", "--cap-drop", "ALL", "--new-session", "--die-with-parent"),
        *("--seccomp", str(filter_at)),
        *("--ro-bind", "/usr", "/usr", *links, "--ro-bind-try", "/etc/ssl", "/etc/ssl"),
        *("--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/run"),  # noqa: S108 - the sandbox's own
        *("--ro-bind", str(folder.resolve()), "/run/modelplex", "--ro-bind", str(BRIDGE), "/run/bridge.py"),
        *("--bind", here, here, "--chdir", here),
        *("--clearenv", "--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", "/tmp"),  # noqa: S108
        *("--setenv", "OPENAI_BASE_URL", "http://127.0.0.1:11435/v1", "--setenv", "OPENAI_API_KEY", "unused"),
        *(
            "--setenv",
            "ANTHROPIC_BASE_URL",
            "http://127.0.0.1:11435",
            "--setenv",
            "ANTHROPIC_API_KEY",
            "unused",
        ),
    ]


def main() -> None:
    words = sys.argv[1:]
    if "--" not in words[1:]:
        sys.exit("run.py SOCKET_FOLDER [BWRAP OPTIONS] -- COMMAND...")
    at = words.index("--")
    folder, more, command = Path(words[0]), words[1:at], words[at + 1 :]
    with tempfile.TemporaryFile() as file:
        file.write(seccomp())
        file.seek(0)
        os.set_inheritable(file.fileno(), True)
        bridge = ["/usr/bin/python3", "/run/bridge.py", "--socket", "/run/modelplex/modelplex.socket"]
        every = [
            *options(folder, filter_at=file.fileno()),
            *more,
            "--",
            *bridge,
            "--listen",
            "127.0.0.1:11435",
            "--",
            *command,
        ]
        os.execvp("bwrap", ["bwrap", *every])  # noqa: S606


if __name__ == "__main__":
    main()
