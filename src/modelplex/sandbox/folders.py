"""The files that a sandboxed program sees, as an ordered list of mounts. mounts.py makes them.

    private   a root of its own: folders of the system and of programs read-only, the working folder
              writable, an empty home
    ro        the host's tree read-only, the working folder writable
    host      the host's tree as it is

Named paths (--ro, --rw) override these, the working folder included; of several the one nearest to
a file applies.

In each of them /tmp, /var/tmp, /run and /dev/shm are empty and private, /proc shows the sandbox's
processes, /dev has harmless devices, and /sys the processors. The gateway's files (config, log,
state) are masked.
"""

# Paths of another root, and links that must not be followed, are text.
# ruff: noqa: PTH112, PTH114, PTH115, PTH118, PTH120
from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

FileView: TypeAlias = Literal["private", "ro", "host"]

SYSTEM: Final = "usr bin sbin lib lib32 lib64 libx32 etc opt nix gnu".split()
"""The top folders of a distribution. Others (root, home, var, srv, mnt) have users' files."""
NO_WORKING_FOLDER: Final = frozenset(
    f"/{name}"
    for name in [
        *SYSTEM,
        *"boot dev home proc root run sys tmp usr/bin usr/lib usr/sbin var var/lib var/tmp".split(),
    ]
)
"""Folders of the system, of everybody, or of the sandbox: never shared as working folder."""
NO_WORKING_FOLDER_BELOW: Final = ("/boot", "/dev", "/etc", "/proc", "/sys")
OWN: Final = ("/tmp", "/var/tmp", "/run", "/dev/shm")  # noqa: S108 - the sandbox has its own
HIDDEN_OF_PROC: Final = (
    "acpi asound bus fs irq kcore keys latency_stats sched_debug scsi sysrq-trigger timer_list".split()
)
"""Readable or writable for uid 0 without any capability; container engines mask the same."""
SHOWN_OF_SYS: Final = ("/sys/devices/system/cpu", "/sys/devices/system/node")
"""What lscpu, the C library and runtimes count processors by; read-only. The rest has devices,
firmware and settings of the host.
"""
RUN: Final = "/run/modelplex"
SOCKET: Final = f"{RUN}/modelplex.socket"


class Mount(NamedTuple):
    """`empty` is a new file system in memory, `link` a symbolic link to `source`; `mask` hides a
    file or folder behind an empty one.
    """

    kind: Literal["ro", "rw", "empty", "link", "mask"]
    target: str
    source: str = ""


class MountRequest(NamedTuple):
    view: FileView
    folder: str
    """The working folder if it is shared, else ""."""
    home: str
    read_only: Sequence[str] = ()
    writable: Sequence[str] = ()
    own: Sequence[str] = ()
    """Modelplex's own code: read-only even in a writable folder, since it next runs with keys."""
    protected: Sequence[str] = ()
    """Files of the project that make the host run something later: read-only."""
    programs: Sequence[str] = ()
    """Folders and files of other programs: read-only, unless a shared folder contains them."""
    kept: Sequence[Mount] = ()
    """Of the home of an agent: folders that stay between runs, and what is shown there."""
    repository: Sequence[str] = ()
    """Folders that the working folder is a part of in git. They get its access."""
    masked: Sequence[str] = ()
    is_root: bool = False


def mounts(request: MountRequest) -> list[Mount]:
    """Folders before their contents, masks last."""
    writable = list(request.writable)
    project = [request.folder, *request.repository] if request.folder else []
    if request.view == "host" and not _is_below(request.folder, OWN):
        project = []
    writable[:0] = writable_by_default(project, read_only=request.read_only, writable=writable)
    programs = [path for path in request.programs if not _is_below(path, writable)]
    if request.view != "private":
        programs = [path for path in programs if _is_below(path, OWN)]
    shared = [_read_only_mount(path) for path in (*programs, *project[1:], *request.read_only)]
    shared += [Mount("rw", path, path) for path in writable]
    protected = (*request.own, *request.protected)
    shared += [_read_only_mount(path) for path in protected if path not in writable]
    own = [Mount("empty", path) for path in OWN if path != "/dev/shm"]  # noqa: S108 - /dev is made whole
    if request.view == "private":
        base = _system()
        own.append(Mount("link", "/var/run", "/run"))
        if request.home != "/":
            own.append(Mount("empty", request.home))
    else:
        base = [Mount("rw" if request.view == "host" else "ro", "/", "/")]
        own = [mount for mount in own if os.path.isdir(mount.target)]
    own.sort(key=lambda mount: mount.target.count("/"))
    masks = [Mount("mask", path) for path in request.masked]
    if request.is_root and request.view != "host":
        masks += [Mount("mask", path) for path in unreadable("/etc")]
    return [*base, *own, *_in_order(shared, request), *request.kept, *masks]


def _read_only_mount(path: str) -> Mount:
    """A link is made again: a mount on it would be at its target."""
    return Mount("link", path, os.readlink(path)) if os.path.islink(path) else Mount("ro", path, path)


def writable_by_default(
    project: Sequence[str], *, read_only: Sequence[str], writable: Sequence[str]
) -> list[str]:
    """Of the working folder, the first of these, and the folders of its repository: not those where
    a --ro at or above them, or the working folder, applies, unless a --rw is nearer.
    """
    return [
        path
        for path in project
        if all(nearest(each, read_only) <= nearest(each, writable) for each in (project[0], path))
    ]


def nearest(path: str, named: Iterable[str]) -> int:
    """The length of the longest of these that is the path or a folder above it, else 0."""
    return max((len(each) for each in named if path == each or path.startswith(f"{each}/")), default=0)


def access(path: str, steps: Sequence[Mount]) -> str:
    """The kind of the mount that applies to a path: the last one on it or on a folder above it; ""
    where there is none.
    """
    return next(
        (
            step.kind
            for step in reversed(steps)
            if step.kind != "link" and (step.target in {path, "/"} or path.startswith(f"{step.target}/"))
        ),
        "",
    )


def pinned(steps: Sequence[Mount], *, named: Collection[str] = ()) -> list[Mount]:
    """The steps with a mount on each folder between a writable one and a path in it that is masked
    or read-only. A mount point cannot be renamed from inside; otherwise the program could move the
    folder away from under the mask.

    A pin is on a folder that is writable already, after the steps above it and before those below
    it, so it changes no access. Where the whole tree is writable, only the folders above what is
    `named` (--ro) are pinned, since files cannot be renamed across mounts.
    """
    roots = [step.target for step in steps if step.kind == "rw" and step.target != "/"]
    taken = {step.target for step in steps}
    pins = {
        folder
        for step in steps
        if step.kind in {"ro", "mask"}
        for folder in _between(step.target, ["", *roots] if step.target in named else roots)
        if folder not in taken and access(folder, steps) == "rw"
    }
    made = list(steps)
    for pin in sorted(pins, key=lambda path: path.count("/")):
        above = [
            at for at, step in enumerate(made) if step.target == "/" or pin.startswith(f"{step.target}/")
        ]
        made.insert(above[-1] + 1, Mount("rw", pin, pin))
    return made


def _between(path: str, roots: Sequence[str]) -> list[str]:
    """The folders above a path that are below one of these."""
    found: list[str] = []
    folder = os.path.dirname(path)
    while folder != "/" and any(folder.startswith(f"{root}/") for root in roots):
        found.append(folder)
        folder = os.path.dirname(folder)
    return found


def _is_below(path: str, roots: Iterable[str]) -> bool:
    return any(path.startswith(f"{root}/") for root in roots)


def can_share(folder: str, *, home: str) -> bool:
    """Whether a folder may be mounted for the programs in it: not one with the whole home folder,
    or one that the sandbox has of its own.
    """
    return folder not in {"/", *OWN} and not (home == folder or home.startswith(f"{folder}/"))


def is_working_folder(folder: str, *, homes: Iterable[str]) -> bool:
    """Whether a working folder is shared, and writable: not a whole home, nor one of the system."""
    if folder in NO_WORKING_FOLDER or _is_below(folder, NO_WORKING_FOLDER_BELOW):
        return False
    return all(can_share(folder, home=home) for home in homes)


def _system() -> list[Mount]:
    found: list[Mount] = []
    for name in SYSTEM:
        path = Path("/", name)
        if path.is_symlink():
            found.append(Mount("link", str(path), str(path.readlink())))
        elif path.is_dir():
            found.append(Mount("ro", str(path), str(path)))
    return found


def _in_order(shared: Iterable[Mount], request: MountRequest) -> list[Mount]:
    """One mount for each path, the last one given, and folders before their contents; without those
    that a mount above makes redundant.
    """
    chosen = {mount.target: mount for mount in shared}
    roots = [f"/{name}" for name in SYSTEM] if request.view == "private" else []
    kept: list[Mount] = []
    for path in sorted(chosen, key=lambda path: (path.count("/"), path)):
        mount = chosen[path]
        above = [each.kind for each in kept if path.startswith(f"{each.target}/")]
        kind = above[-1] if above else None
        if mount.kind != "rw" and (
            kind == "ro" or path in roots or (kind is None and _is_below(path, roots))
        ):
            continue
        if mount.kind == "link" and (
            kind is not None or not (request.view == "private" or _is_below(path, OWN))
        ):
            continue
        of_own = path in OWN or _is_below(path, OWN)
        if mount.kind == "ro" and request.view == "ro" and kind is None and not of_own:
            continue
        kept.append(mount)
    return kept


def unreadable(root: str) -> Iterator[str]:
    """Paths below a folder that are not world-readable. Inside, root cannot read them either."""
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            needed = stat.S_IXOTH | stat.S_IROTH if stat.S_ISDIR(mode) else stat.S_IROTH
            if (stat.S_ISDIR(mode) or stat.S_ISREG(mode)) and mode & needed != needed:
                yield path
                if name in folders:
                    folders.remove(name)


# --- folders that are mounted twice ---


class Mounted(NamedTuple):
    """A row of /proc/PID/mountinfo, see proc_pid_mountinfo(5)."""

    path: str
    device: str
    root: str


def read_mounts(table: str) -> list[Mounted]:
    rows = [row.split(" ") for row in table.splitlines()]
    return [Mounted(_unescaped(row[4]), row[2], _unescaped(row[3])) for row in rows]


def _unescaped(text: str) -> str:
    """Decode the octal escapes of blanks, tabs, newlines and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def other_paths(path: str, mounted: Sequence[Mounted], *, within: Iterable[str]) -> list[str]:
    """Other paths, in or around these folders, of the same folder or a part of it. All are real
    paths.
    """
    original = _locate(path, mounted)
    found: list[str] = []
    for folder in within:
        places = [_locate(folder, mounted), *(each for each in mounted if each.path.startswith(f"{folder}/"))]
        for place in places:
            if place.device != original.device:
                continue
            if nearest(place.root, [original.root]):
                found.append(place.path)
            elif nearest(original.root, [place.root]):
                found.append(f"{place.path}{original.root[len(place.root.rstrip('/')) :]}")
    return [other for other in dict.fromkeys(found) if other != path and not other.startswith(f"{path}/")]


def _locate(path: str, mounted: Sequence[Mounted]) -> Mounted:
    """The file system of a path, and its path in there."""
    around = [each for each in mounted if each.path == "/" or nearest(path, [each.path])]
    if not around:
        return Mounted(path, "", path)  # in a chroot, whose root is not a mount
    longest = max(len(each.path) for each in around)
    top = [each for each in around if len(each.path) == longest][-1]  # the last one hides the others
    rest = path[len(top.path.rstrip("/")) :]
    return Mounted(path, top.device, os.path.normpath(f"{top.root}/{rest}").replace("//", "/"))


# --- streams ---


def is_read_only(number: int) -> bool:
    return fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


def has_path(number: int) -> bool:
    """Whether an open file is at the path that the kernel reports, or has no path any more."""
    facts = os.fstat(number)
    if facts.st_nlink == 0:
        return True
    try:
        return os.path.samestat(facts, Path(os.readlink(f"/proc/self/fd/{number}")).stat())
    except OSError:
        return False
