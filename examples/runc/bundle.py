"""Writes a bundle for runc (and gVisor's runsc): a container with no network but the gateway.

    python3 bundle.py BUNDLE --socket-folder FOLDER [--mount PATH]... [--setenv NAME=VALUE]... --
    COMMAND... runc run --bundle BUNDLE my-agent

FOLDER holds modelplex.socket; the folder is mounted and not the file, so that a gateway that starts
anew is found again. The root is the host's /usr, read-only, and each PATH, read-only too;
/workspace is a folder of the bundle, and writable. Standard library alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

BRIDGE = Path(__file__).resolve().parents[2] / "src" / "modelplex" / "sandbox" / "bridge.py"
ENVIRONMENT = [
    "PATH=/usr/bin:/bin",
    "HOME=/tmp",
    "OPENAI_BASE_URL=http://127.0.0.1:11435/v1",
    "OPENAI_API_KEY=unused",
    "ANTHROPIC_BASE_URL=http://127.0.0.1:11435",
    "ANTHROPIC_API_KEY=unused",
]
FAMILIES = {"unix": 1, "inet": 2, "inet6": 10}
EAFNOSUPPORT, ENOSYS = 97, 38


def bind(source: Path, target: str, *, writable: bool = False) -> dict[str, Any]:
    options = ["rbind", "nosuid", "nodev", "rw" if writable else "ro"]
    return {"destination": target, "type": "bind", "source": str(source), "options": options}


def seccomp() -> dict[str, Any]:
    """Namespaces cover neither AF_VSOCK nor what io_uring opens: sockets of three families alone,
    and no io_uring.
    """
    calls = ["socket", "socketpair"]
    # A family that is none of the three lies below, between or above them.
    bounds = sorted(FAMILIES.values())
    between = [n for n in range(bounds[-1]) if n not in bounds]
    refused = [{"index": 0, "value": n, "op": "SCMP_CMP_EQ"} for n in between]
    refused.append({"index": 0, "value": bounds[-1], "op": "SCMP_CMP_GT"})
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [
            *(
                {"names": calls, "action": "SCMP_ACT_ERRNO", "errnoRet": EAFNOSUPPORT, "args": [each]}
                for each in refused
            ),
            {
                "names": ["io_uring_setup", "io_uring_enter", "io_uring_register"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": ENOSYS,
            },
        ],
    }


def config(asked: argparse.Namespace, work: Path) -> dict[str, Any]:
    bridge = ["/usr/bin/python3", "/run/bridge.py", "--socket", "/run/modelplex/modelplex.socket"]
    tmpfs = {"type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]}
    return {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "agent",
        "process": {
            "cwd": "/workspace",
            "user": {"uid": 0, "gid": 0},
            "env": [*ENVIRONMENT, *asked.setenv],
            "args": [*bridge, "--listen", "127.0.0.1:11435", "--", *asked.command],
            "noNewPrivileges": True,
            "capabilities": {},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/tmp", **tmpfs},  # noqa: S108 - the container's own
            {"destination": "/run", **tmpfs},
            bind(Path("/usr"), "/usr"),
            *(bind(path, str(path)) for path in asked.mount),
            bind(asked.socket_folder.resolve(), "/run/modelplex"),
            bind(BRIDGE, "/run/bridge.py"),
            bind(work, "/workspace", writable=True),
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/sysrq-trigger"],
            "readonlyPaths": ["/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq"],
            "seccomp": seccomp(),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--socket-folder", type=Path, required=True)
    parser.add_argument("--mount", type=Path, action="append", default=[])
    parser.add_argument("--setenv", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()
    bundle = asked.bundle.resolve()
    work = bundle / "work"
    work.mkdir(parents=True, exist_ok=True)
    (bundle / "rootfs").mkdir(exist_ok=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        link = bundle / "rootfs" / name
        if not link.is_symlink():
            link.symlink_to(f"usr/{name}")
    (bundle / "config.json").write_text(json.dumps(config(asked, work), indent=2) + "\n")


if __name__ == "__main__":
    main()
