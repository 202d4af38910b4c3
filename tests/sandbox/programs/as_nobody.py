"""`as_nobody.py PATHS -- COMMAND` runs a command as uid 65534, for root. In a mount namespace it
makes these paths, such as an interpreter below /root, reachable for that user.
"""

import ctypes
import os
import sys
import tempfile
from pathlib import Path

NOBODY = 65534
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 4096, 16384, 1 << 18
libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    if libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()):
        raise OSError(ctypes.get_errno(), f"mount {source} on {target}")


def closed(path: Path) -> Path | None:
    """The topmost folder above a path that other users may not enter."""
    for folder in reversed(path.parents):
        if not folder.stat().st_mode & 0o001:
            return folder
    return None


def main() -> None:
    split = sys.argv.index("--")
    paths, command = [Path(path).resolve() for path in sys.argv[1:split]], sys.argv[split + 1 :]
    if libc.unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    gates: dict[Path, list[Path]] = {}
    for path in paths:
        gate = closed(path)
        if gate is not None:
            gates.setdefault(gate, []).append(path)
    for gate, behind in gates.items():
        kept = [(path, tempfile.mkdtemp()) for path in behind]
        for path, place in kept:
            mount(str(path), place, "", MS_BIND | MS_REC)
        mount("tmpfs", str(gate), "tmpfs", 0, "mode=0755")
        for path, place in kept:
            path.mkdir(parents=True, exist_ok=True)
            mount(place, str(path), "", MS_BIND | MS_REC)
            libc.umount2(place.encode(), 2)
            Path(place).rmdir()
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
