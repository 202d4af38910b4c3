"""`replace.py PATH...` tries every way to replace or change each path, which are below the working
folder, and prints the ways that worked.
"""

# Paths are used as they are written.
# ruff: noqa: PTH101, PTH103, PTH104, PTH108, PTH112, PTH118, PTH120, PTH123, PTH211
import ctypes
import os
import shutil
import sys
from collections.abc import Callable

CLONE_NEWNS, CLONE_NEWUSER, MS_BIND, MS_REMOUNT, MNT_DETACH = 0x20000, 0x10000000, 4096, 32, 2
LIBC = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(source: str, target: str, kind: str, flags: int) -> None:
    checked(LIBC.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), b""))


def write(path: str) -> None:
    with open(os.path.join(path, "made") if os.path.isdir(path) else path, "a") as file:
        file.write("changed")


def remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def replace(path: str) -> None:
    other = path.replace("/", "_") + ".other"
    if os.path.isdir(path):
        os.makedirs(other, exist_ok=True)
    else:
        open(other, "w").close()
    os.rename(other, path)


def in_new_namespace(attempt: Callable[[], None]) -> None:
    """In a child, which is root of a user namespace where that is allowed."""
    pid = os.fork()
    if pid == 0:
        try:
            checked(LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNS))
            attempt()
        except OSError:
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        raise OSError


def uncover(path: str) -> None:
    """Take the mount away, or look below it through another mount of the folder."""

    def attempt() -> None:
        try:
            checked(LIBC.umount2(path.encode(), MNT_DETACH))
        except OSError:
            try:
                mount(path, path, "", MS_BIND | MS_REMOUNT)
            except OSError:
                mount(".", "/tmp", "", MS_BIND)
                os.chdir("/tmp")
        write(path)

    in_new_namespace(attempt)


WAYS: dict[str, Callable[[str], object]] = {
    "write": write,
    "write through /proc": lambda path: write(f"/proc/self/cwd/{path}"),
    "truncate": lambda path: os.truncate(path, 0),
    "mode": lambda path: os.chmod(path, 0o777),
    "remove": remove,
    "rename": lambda path: os.rename(path, path + ".moved"),
    "rename over it": replace,
    "exchange": lambda path: checked(
        LIBC.renameat2(-100, path.encode(), -100, b"mine", 2)
    ),  # RENAME_EXCHANGE
    "link": lambda path: os.link(path, path.replace("/", "_") + ".linked"),
    "symbolic link": lambda path: os.symlink("mine", path),
    "mount": lambda path: mount("tmpfs", path, "tmpfs", 0),
    "unmount": lambda path: checked(LIBC.umount2(path.encode(), MNT_DETACH)),
    "unmount in a namespace": uncover,
    "rename its folder": lambda path: os.rename(os.path.dirname(path) or ".", "elsewhere"),
    "rename the top folder": lambda path: os.rename(path.split("/", maxsplit=1)[0], "elsewhere"),
}


def main() -> None:
    open("mine", "w").close()
    for path in sys.argv[1:]:
        for name, attempt in WAYS.items():
            try:
                attempt(path)
            except OSError:
                continue
            print(f"{path}: {name}")


main()
