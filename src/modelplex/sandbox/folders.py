"""What a sandboxed program sees of the host's files: a list of mounts, in order. Deciding it is
here, doing it in mounts.py.

    private   a root of its own: the system's folders and the program's own read-only, the working
              folder writable, an empty home
    ro        the host's whole tree read-only, with the working folder writable
    host      the host's whole tree as it is

What is named (--ro, --rw) goes before all of that, the working folder included: of the named paths
the one nearest to a file decides.

In each of them /tmp, /var/tmp, /run and /dev/shm are empty and its own, /proc shows its own
processes, /dev holds what is harmless, and /sys nothing. The gateway's own files (its config, its
log, what it remembers) are covered.
"""

# Paths of another root, and links that are not to be followed, are text.
# ruff: noqa: PTH100, PTH112, PTH114, PTH115, PTH118, PTH119, PTH120
from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

Way: TypeAlias = Literal["private", "ro", "host"]

SYSTEM: Final = "usr bin sbin lib lib32 lib64 libx32 etc opt nix gnu".split()
"""The top folders of a distribution. What is not here (root, home, var, srv, mnt, a folder of
somebody's own) holds people's things.
"""
NOT_WORKED_IN: Final = frozenset(
    f"/{name}"
    for name in [
        *SYSTEM,
        *"boot dev home proc root run sys tmp usr/bin usr/lib usr/sbin var var/lib var/tmp".split(),
    ]
)
"""Folders of the system's, of everybody's, or of the sandbox's own. Who starts a program there
means the program, and not all that lies there.
"""
NOT_WORKED_BELOW: Final = ("/boot", "/dev", "/etc", "/proc", "/sys")
OWN: Final = ("/tmp", "/var/tmp", "/run", "/dev/shm")  # noqa: S108 - they are what is replaced
HIDDEN_OF_PROC: Final = (
    "acpi asound bus fs irq kcore keys latency_stats sched_debug scsi sysrq-trigger timer_list".split()
)
"""What uid 0 could read or turn there without any capability; as container engines do it."""
RUN: Final = "/run/modelplex"
SOCKET: Final = f"{RUN}/modelplex.socket"


class Mount(NamedTuple):
    """One step. `empty` is a new file system in memory, `link` a symbolic link to `source`, `cover`
    hides a file or folder behind nothing.
    """

    kind: Literal["ro", "rw", "empty", "link", "cover"]
    target: str
    source: str = ""


class MountRequest(NamedTuple):
    """What decides the list."""

    way: Way
    folder: str
    """The working folder where it is shared, else empty."""
    home: str
    read_only: Sequence[str] = ()
    writable: Sequence[str] = ()
    own: Sequence[str] = ()
    """What the gateway itself is made of: read-only even within a writable folder, since it runs
    with the keys next time.
    """
    programs: Sequence[str] = ()
    """Folders and files of other programs: read-only, and as the folder around them is where that
    is shared.
    """
    covered: Sequence[str] = ()
    is_root: bool = False


def mounts(wanted: MountRequest) -> list[Mount]:
    """Folders before what lies in them, and covers last."""
    writable = list(wanted.writable)
    if _works_in_folder(wanted):
        writable.insert(0, wanted.folder)
    programs = [path for path in wanted.programs if not _is_below(path, writable)]
    if wanted.way != "private":
        programs = [path for path in programs if _is_below(path, OWN)]
    shared = [_shown(path) for path in (*programs, *wanted.read_only)]
    shared += [Mount("rw", path, path) for path in writable]
    shared += [_shown(path) for path in wanted.own if path not in writable]
    own = [Mount("empty", path) for path in OWN if path != "/dev/shm"]  # noqa: S108 - /dev is made whole
    if wanted.way == "private":
        base = _system()
        own.append(Mount("link", "/var/run", "/run"))
        if wanted.home != "/":
            own.append(Mount("empty", wanted.home))
    else:
        base = [Mount("rw" if wanted.way == "host" else "ro", "/", "/")]
        own = [mount for mount in own if os.path.isdir(mount.target)]
    own.sort(key=lambda mount: mount.target.count("/"))
    covers = [Mount("cover", path) for path in wanted.covered]
    if wanted.is_root and wanted.way != "host":
        covers += [Mount("cover", path) for path in unreadable("/etc")]
    return [*base, *own, *_in_order(shared, wanted), *covers]


def _shown(path: str) -> Mount:
    """A link is made again: a mount upon it would land where it leads to."""
    return Mount("link", path, os.readlink(path)) if os.path.islink(path) else Mount("ro", path, path)


def _works_in_folder(wanted: MountRequest) -> bool:
    """Whether the working folder is writable without being named: not where a --ro at or above it
    says otherwise, unless a --rw between them does.
    """
    if not wanted.folder or (wanted.way == "host" and not _is_below(wanted.folder, OWN)):
        return False
    return nearest(wanted.folder, wanted.read_only) <= nearest(wanted.folder, wanted.writable)


def nearest(path: str, named: Iterable[str]) -> int:
    """The length of the longest of these that is the path or a folder above it; 0 where none is."""
    return max((len(each) for each in named if path == each or path.startswith(f"{each}/")), default=0)


def access(path: str, steps: Sequence[Mount]) -> str:
    """The kind of the step that decides about a path: the last one upon it or upon a folder above
    it. Empty where nothing is there.
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
    """The same with a mount upon every folder between a writable one and what is covered or
    read-only within it. A folder that is a mount cannot be renamed from inside, and a cover that
    stays where it was while its folder moves away covers nothing.

    A pin lies upon a folder that is writable already, behind the steps above it and before those
    below it, so that it changes nobody's access. Where the whole tree is writable, only the folders
    above what is `named` (--ro) are pinned: a mount is a border that files cannot be moved across
    in one step.
    """
    roots = [step.target for step in steps if step.kind == "rw" and step.target != "/"]
    taken = {step.target for step in steps}
    pins = {
        folder
        for step in steps
        if step.kind in {"ro", "cover"}
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
    """The folders above a path that lie below one of these."""
    found: list[str] = []
    folder = os.path.dirname(path)
    while folder != "/" and any(folder.startswith(f"{root}/") for root in roots):
        found.append(folder)
        folder = os.path.dirname(folder)
    return found


def _is_below(path: str, roots: Iterable[str]) -> bool:
    return any(path.startswith(f"{root}/") for root in roots)


def shares(folder: str, *, home: str) -> bool:
    """Whether a folder is shared for the programs in it: not where that would show the whole home
    folder, or stand in the place of one that is the sandbox's own.
    """
    return folder not in {"/", *OWN} and not (home == folder or home.startswith(f"{folder}/"))


def works_in(folder: str, *, homes: Iterable[str]) -> bool:
    """Whether a working folder is shared, and may be written to: a project's, but nobody's whole
    home, and nothing of the system's.
    """
    if folder in NOT_WORKED_IN or _is_below(folder, NOT_WORKED_BELOW):
        return False
    return all(shares(folder, home=home) for home in homes)


def _system() -> list[Mount]:
    found: list[Mount] = []
    for name in SYSTEM:
        path = Path("/", name)
        if path.is_symlink():
            found.append(Mount("link", str(path), str(path.readlink())))
        elif path.is_dir():
            found.append(Mount("ro", str(path), str(path)))
    return found


def _in_order(shared: Iterable[Mount], wanted: MountRequest) -> list[Mount]:
    """One for each path, the later word counts, a folder before what lies in it; nothing that is
    shown read-only already.
    """
    chosen = {mount.target: mount for mount in shared}
    roots = [f"/{name}" for name in SYSTEM] if wanted.way == "private" else []
    kept: list[Mount] = []
    for path in sorted(chosen, key=lambda path: (path.count("/"), path)):
        mount = chosen[path]
        around = [each.target for each in kept if path.startswith(f"{each.target}/")]
        kind = next((each.kind for each in kept if around and each.target == around[-1]), None)
        if mount.kind != "rw" and (
            kind == "ro" or path in roots or (kind is None and _is_below(path, roots))
        ):
            continue
        if mount.kind == "link" and (
            kind is not None or not (wanted.way == "private" or _is_below(path, OWN))
        ):
            continue
        of_own = path in OWN or _is_below(path, OWN)
        if mount.kind == "ro" and wanted.way == "ro" and kind is None and not of_own:
            continue
        kept.append(mount)
    return kept


def unreadable(root: str) -> Iterator[str]:
    """What not everybody may read below a folder: root's own, which root is not shown either."""
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            needed = stat.S_IXOTH | stat.S_IROTH if stat.S_ISDIR(mode) else stat.S_IROTH
            if (stat.S_ISDIR(mode) or stat.S_ISREG(mode)) and mode & needed != needed:
                yield path
                if name in folders:
                    folders.remove(name)


# --- other names of a folder ---


class Mounted(NamedTuple):
    """A row of /proc/PID/mountinfo (proc_pid_mountinfo(5)): what of which file system is shown
    where.
    """

    path: str
    device: str
    root: str


def read_mounts(table: str) -> list[Mounted]:
    rows = [row.split(" ") for row in table.splitlines()]
    return [Mounted(_unescaped(row[4]), row[2], _unescaped(row[3])) for row in rows]


def _unescaped(text: str) -> str:
    """Blanks, tabs, newlines and backslashes are written in octal."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def other_paths(path: str, mounted: Sequence[Mounted], *, within: Iterable[str]) -> list[str]:
    """Where below these folders, or above them, the same folder or a part of it is shown a second
    time. `path` and they are real paths.
    """
    shown = _inside(path, mounted)
    found: list[str] = []
    for folder in within:
        places = [_inside(folder, mounted), *(each for each in mounted if each.path.startswith(f"{folder}/"))]
        for place in places:
            if place.device != shown.device:
                continue
            if nearest(place.root, [shown.root]):
                found.append(place.path)
            elif nearest(shown.root, [place.root]):
                found.append(f"{place.path}{shown.root[len(place.root.rstrip('/')) :]}")
    return [other for other in dict.fromkeys(found) if other != path and not other.startswith(f"{path}/")]


def _inside(path: str, mounted: Sequence[Mounted]) -> Mounted:
    """A path as if it were mounted by itself: which folder of which file system it is."""
    around = [each for each in mounted if each.path == "/" or nearest(path, [each.path])]
    if not around:
        return Mounted(path, "", path)  # below the root of a chroot, which is no mount itself
    longest = max(len(each.path) for each in around)
    top = [each for each in around if len(each.path) == longest][-1]  # the last one hides the others
    rest = path[len(top.path.rstrip("/")) :]
    return Mounted(path, top.device, os.path.normpath(f"{top.root}/{rest}").replace("//", "/"))


# --- streams ---


def is_read_only(number: int) -> bool:
    """Whether a descriptor is open for reading alone."""
    return fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


def has_path(number: int) -> bool:
    """Whether an open file is where the kernel says that it is; one that has been removed, and is
    nobody else's any more, counts too.
    """
    facts = os.fstat(number)
    if facts.st_nlink == 0:
        return True
    try:
        return os.path.samestat(facts, Path(os.readlink(f"/proc/self/fd/{number}")).stat())
    except OSError:
        return False


# --- programs ---


def programs(command: str, *, environ: Mapping[str, str], home: str) -> list[str]:
    """The folders that the command and what is on the PATH need."""
    found: list[str] = []
    for folder in environ.get("PATH", "").split(os.pathsep):
        if folder.startswith("/") and Path(folder).is_dir():
            found += _of_folder(folder, home=home)
    path = shutil.which(command, path=environ.get("PATH"))
    if path is not None:
        found += of_program(path, home=home)
    return [path for path in dict.fromkeys(found) if shares(path, home=home)]


def _of_folder(folder: str, *, home: str) -> list[str]:
    """Shims (of pyenv, asdf, mise) start what lies beside their folder."""
    prefix = os.path.dirname(os.path.realpath(folder))
    if os.path.basename(folder) == "shims" and prefix not in {home, f"{home}/.local"}:
        return [prefix]
    return [folder, os.path.realpath(folder), *_of_prefix(prefix, home=home)]


def of_program(path: str, *, home: str) -> list[str]:
    """The file, whatever its links lead through, and the installation that it is of."""
    found: list[str] = []
    seen = os.path.abspath(path)
    for _ in range(40):  # as many links as the kernel follows
        found.append(seen)
        found += _of_prefix(os.path.dirname(os.path.dirname(seen)), home=home)
        if not os.path.islink(seen):
            break
        seen = os.path.normpath(os.path.join(os.path.dirname(seen), os.readlink(seen)))
    real = os.path.realpath(path)
    return [*found, real, *_of_prefix(os.path.dirname(os.path.dirname(real)), home=home)]


def _of_prefix(prefix: str, *, home: str) -> list[str]:
    """An installation (a virtual environment, a Node of its own): known by the folder `lib` beside
    `bin`. ~/.local is none, since keys lie in it.
    """
    if prefix in {home, f"{home}/.local", "/", ""} or not shares(prefix, home=home):
        return []
    if not (os.path.isdir(f"{prefix}/bin") and os.path.isdir(f"{prefix}/lib")):
        return []
    found = [prefix]
    try:
        rows = Path(prefix, "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return found
    for row in rows:
        name, _, value = row.partition("=")
        if name.strip() == "home":
            base = os.path.dirname(os.path.realpath(value.strip()))
            if base != prefix:
                found += _of_prefix(base, home=home)
    return found
