"""What a program may do with each path, over all combinations of --fs, --ro, --rw and the working
folder: the named path that is nearest decides.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelplex.sandbox.folders import (
    FileView,
    Mount,
    MountRequest,
    access,
    mounts,
    other_paths,
    pinned,
    read_mounts,
)
from tests.processes import WAIT_S
from tests.sandbox.sandboxes import Person, allowed

PATHS = ("/srv/a", "/srv/a/b", "/srv/a/b/c", "/srv/a/b/c/d", "/srv/a/bb", "/srv/x", "/srv/x/y")
"""Each is named, covered or worked in by some combination. None of them has to be there: the list
of mounts is decided from their names.
"""
ASKED = (*PATHS, "/srv/a/b/c/d/e", "/srv/a/b/other", "/srv/a/bb/f", "/srv/x/y/z", "/srv")
WAYS: tuple[FileView, ...] = ("private", "ro", "host")
FOLDERS = ("", "/srv/a", "/srv/a/b", "/srv/a/b/c", "/srv/x/y")


def expected(path: str, wanted: MountRequest) -> str:
    """By the definition: the nearest named path, else the working folder, else what --fs says."""
    for folder in map(str, [Path(path), *Path(path).parents]):
        if folder in wanted.read_only:
            return "ro"
        if folder in wanted.writable:
            return "rw"
    if wanted.folder and (path == wanted.folder or path.startswith(f"{wanted.folder}/")):
        return "rw"
    return {"private": "", "ro": "ro", "host": "rw"}[wanted.view]


def combinations() -> Iterator[MountRequest]:
    for way, folder in itertools.product(WAYS, FOLDERS):
        for kinds in itertools.product(("", "ro", "rw"), repeat=4):
            named = dict(zip(PATHS, kinds, strict=False))
            yield MountRequest(
                view=way,
                folder=folder,
                home="/home/somebody",
                read_only=[path for path, kind in named.items() if kind == "ro"],
                writable=[path for path, kind in named.items() if kind == "rw"],
            )


def some(count: int = 150) -> list[MountRequest]:
    """As many of them as a test that does more with each can look at."""
    return random.Random(9).sample([*combinations()], count)


def steps_of(wanted: MountRequest) -> list[Mount]:
    return pinned(mounts(wanted), named=wanted.read_only)


def test_the_nearest_named_path_decides_in_every_combination() -> None:
    for wanted in combinations():
        steps = steps_of(wanted)
        got = {path: access(path, steps) for path in ASKED}
        assert got == {path: expected(path, wanted) for path in ASKED}, wanted


def test_what_is_named_in_another_order_comes_to_the_same() -> None:
    chance = random.Random(9)
    for wanted in some():
        shuffled = wanted._replace(
            read_only=chance.sample(wanted.read_only, len(wanted.read_only)),
            writable=chance.sample(wanted.writable, len(wanted.writable)),
        )
        assert {path: access(path, steps_of(shuffled)) for path in ASKED} == {
            path: access(path, steps_of(wanted)) for path in ASKED
        }


@pytest.mark.parametrize("covered", ["/srv/a/b/c/d/secret", "/srv/a/bb/secret", "/srv/x/secret"])
def test_a_pin_changes_nobody_s_access_and_lies_on_all_that_could_be_renamed(covered: str) -> None:
    for wanted in some():
        bare = mounts(wanted._replace(covered=[covered]))
        steps = pinned(bare)
        assert access(covered, steps) == "cover"
        for path in ASKED:
            assert access(path, steps) == access(path, bare), wanted
        targets = {step.target for step in steps}
        for folder in map(str, Path(covered).parents):
            if access(folder, steps) == "rw" and access(str(Path(folder).parent), steps) == "rw":
                assert folder in targets or wanted.view == "host", (folder, wanted)


def test_nothing_above_what_is_named_read_only_can_be_renamed() -> None:
    """Else the program could move it away, and put something writable in its place."""
    for wanted in combinations():
        steps = steps_of(wanted)
        targets = {step.target for step in steps}
        for path in wanted.read_only:
            for folder in map(str, Path(path).parents):
                if (
                    folder != "/"
                    and access(folder, steps) == "rw"
                    and access(str(Path(folder).parent), steps) == "rw"
                ):
                    assert folder in targets, (folder, wanted)


MOUNTINFO = """\
25 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 25 254:1 /srv/data /home/u/proj/data rw shared:2 - ext4 /dev/vda1 rw
31 25 254:1 /srv/data/sub /home/u/proj/a\\040b rw shared:3 - ext4 /dev/vda1 rw
32 25 0:40 / /mnt/disk rw - tmpfs tmpfs rw
33 25 0:40 /p /home/u/other rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "within", "found"),
    [
        ("/srv/data", ["/home/u/proj"], ["/home/u/proj/data", "/home/u/proj/a b"]),
        ("/srv", ["/home/u/proj"], ["/home/u/proj/data", "/home/u/proj/a b"]),
        ("/srv/data/sub/x", ["/home/u/proj"], ["/home/u/proj/data/sub/x", "/home/u/proj/a b/x"]),
        ("/srv/database", ["/home/u/proj"], []),
        ("/mnt/disk/p", ["/home/u/other/q"], ["/home/u/other/q"]),
        ("/mnt/disk/p/q", ["/home/u/other"], ["/home/u/other/q"]),
        ("/home/u/proj", ["/home/u/proj"], []),
        ("/home/u/proj/src", ["/home/u/proj"], []),
        ("/home/u", ["/home/u/proj"], []),
    ],
)
def test_a_folder_that_is_mounted_twice_is_found_by_its_other_path(
    path: str, within: list[str], found: list[str]
) -> None:
    assert other_paths(path, read_mounts(MOUNTINFO), within=within) == found


# --- for real -------------------------------------------------------------------------------------

TOUCH = """
import os, sys
for path in sys.argv[1:]:
    try:
        open(path + '/probe', 'w').close()
        os.unlink(path + '/probe')
        print(path, 'rw')
    except OSError as fault:
        print(path, fault.strerror)
"""
READ_ONLY = "Read-only file system"
"""EROFS for everybody: a mode would be another answer for root."""

CASES: dict[str, tuple[list[str], dict[str, str]]] = {
    "the folder here": (["--ro", "."], {".": READ_ONLY, "sub": READ_ONLY, "sub/deep": READ_ONLY}),
    "by its whole path": (["--ro", "{here}"], {".": READ_ONLY}),
    "by a link": (["--ro", "{here}/../link"], {".": READ_ONLY, "sub": READ_ONLY}),
    "a parent": (["--ro", ".."], {".": READ_ONLY, "sub": READ_ONLY}),
    "a part": (["--ro", "sub"], {".": "rw", "sub": READ_ONLY, "sub/deep": READ_ONLY}),
    "a part of a part": (
        ["--ro", "sub", "--rw", "sub/deep"],
        {".": "rw", "sub": READ_ONLY, "sub/deep": "rw"},
    ),
    "the other way round": (
        ["--rw", "sub/deep", "--ro", "."],
        {".": READ_ONLY, "sub": READ_ONLY, "sub/deep": "rw"},
    ),
    "here, in what is read-only": (["--rw", ".", "--ro", ".."], {".": "rw", "sub": "rw"}),
    "everything": (["--fs", "ro", "--ro", "."], {".": READ_ONLY, "sub": READ_ONLY}),
    "of all as it is": (["--fs", "host", "--ro", "."], {".": READ_ONLY, "sub": READ_ONLY}),
    "nothing": ([], {".": "rw", "sub": "rw", "sub/deep": "rw"}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_restriction_holds_inside(me: Person, name: str) -> None:
    (me.folder / "sub" / "deep").mkdir(parents=True)
    (me.folder.parent / "link").symlink_to(me.folder)
    options, found = CASES[name]
    words = [word.format(here=me.folder) for word in options]
    done = me.python(TOUCH.replace("sys.argv[1:]", repr([*found])), *words)
    assert dict(line.split(" ", 1) for line in done.stdout.splitlines()) == found, done.stderr


@pytest.mark.parametrize("way", ["private", "ro", "host"])
def test_what_is_read_only_cannot_be_moved_away(me: Person, way: str) -> None:
    (me.folder / "sub" / "deep").mkdir(parents=True)
    code = (
        "import errno, os\n"
        "for name in ('sub', 'sub/deep'):\n"
        "  try: os.rename(name, name + '-moved'); print('moved')\n"
        "  except OSError as fault: print(errno.errorcode[fault.errno])"
    )
    done = me.python(code, "--fs", way, "--ro", "sub/deep")
    assert done.stdout.split() == ["EBUSY", "EBUSY"], done.stderr


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare")
@pytest.mark.parametrize("given", ["{here}/../data", "{here}"])
def test_a_second_mount_of_what_is_read_only_is_read_only_too(me: Person, given: str) -> None:
    """The same files, below the working folder by another mount; or the working folder itself by
    another name.
    """
    data = me.folder.parent / "data"
    for folder in (data, me.folder / "seen"):
        folder.mkdir()
    told = [str(data)] if "data" in given else [str(me.folder)]
    code = TOUCH.replace("sys.argv[1:]", "['seen']")
    words = me.command("run", "--ro", *told, "--", sys.executable, "-c", code)
    line = f'mount --bind "{data}" "{me.folder}/seen" && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", line, "sh", *words],
        cwd=me.folder,
        env=me.environ,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    allowed(done.stderr)
    assert done.stdout == f"seen {READ_ONLY}\n", done.stderr


@pytest.mark.parametrize("words", [["--ro", ".", "--rw", "{here}"], ["--rw", ".", "--ro", "{here}/../link"]])
def test_one_path_that_is_named_as_both_is_refused(me: Person, words: list[str]) -> None:
    (me.folder.parent / "link").symlink_to(me.folder)
    done = me.run(*(word.format(here=me.folder) for word in words), "--", "true")
    assert done.returncode == 1
    assert done.stderr == f"modelplex: {me.folder} is named by --ro and by --rw: choose one of them.\n"


def test_the_gateway_s_own_folder_is_hidden_where_the_folder_around_it_is_shown(me: Person) -> None:
    code = "import glob, os; print([os.listdir(found) for found in glob.glob('/tmp/modelplex-run-*') if os.path.ismount(found)])"
    done = me.python(code, "--ro", "/tmp")
    assert done.stdout == "[[]]\n", done.stderr


def test_the_sandbox_s_own_folder_cannot_be_named(me: Person) -> None:
    done = me.run("--rw", "/run", "--", "true")
    assert done.returncode == 1
    assert "the sandbox has its own /run/modelplex" in done.stderr
