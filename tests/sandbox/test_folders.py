"""Access to each path for all combinations of --fs, --ro, --rw and working folder: the nearest
named path applies.
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
"""Each is named, masked or the working folder in some combination. They need not exist: mounts are
decided from names.
"""
QUERIED = (*PATHS, "/srv/a/b/c/d/e", "/srv/a/b/other", "/srv/a/bb/f", "/srv/x/y/z", "/srv")
WAYS: tuple[FileView, ...] = ("private", "ro", "host")
FOLDERS = ("", "/srv/a", "/srv/a/b", "/srv/a/b/c", "/srv/x/y")


def expected(path: str, request: MountRequest) -> str:
    """By the definition: the nearest named path, else the working folder, else --fs."""
    for folder in map(str, [Path(path), *Path(path).parents]):
        if folder in request.read_only:
            return "ro"
        if folder in request.writable:
            return "rw"
    if request.folder and (path == request.folder or path.startswith(f"{request.folder}/")):
        return "rw"
    return {"private": "", "ro": "ro", "host": "rw"}[request.view]


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
    """A sample, for tests that take longer with each."""
    return random.Random(9).sample([*combinations()], count)


def steps_of(request: MountRequest) -> list[Mount]:
    return pinned(mounts(request), named=request.read_only)


def test_the_nearest_named_path_applies_in_every_combination() -> None:
    for request in combinations():
        steps = steps_of(request)
        got = {path: access(path, steps) for path in QUERIED}
        assert got == {path: expected(path, request) for path in QUERIED}, request


def test_the_order_of_options_does_not_matter() -> None:
    chance = random.Random(9)
    for request in some():
        shuffled = request._replace(
            read_only=chance.sample(request.read_only, len(request.read_only)),
            writable=chance.sample(request.writable, len(request.writable)),
        )
        assert {path: access(path, steps_of(shuffled)) for path in QUERIED} == {
            path: access(path, steps_of(request)) for path in QUERIED
        }


@pytest.mark.parametrize("masked", ["/srv/a/b/c/d/secret", "/srv/a/bb/secret", "/srv/x/secret"])
def test_pins_change_no_access_and_prevent_renames(masked: str) -> None:
    for request in some():
        bare = mounts(request._replace(masked=[masked]))
        steps = pinned(bare)
        assert access(masked, steps) == "mask"
        for path in QUERIED:
            assert access(path, steps) == access(path, bare), request
        targets = {step.target for step in steps}
        for folder in map(str, Path(masked).parents):
            if access(folder, steps) == "rw" and access(str(Path(folder).parent), steps) == "rw":
                assert folder in targets or request.view == "host", (folder, request)


def test_no_folder_above_a_read_only_path_can_be_renamed() -> None:
    """Otherwise the program could replace it with something writable."""
    for request in combinations():
        steps = steps_of(request)
        targets = {step.target for step in steps}
        for path in request.read_only:
            for folder in map(str, Path(path).parents):
                if (
                    folder != "/"
                    and access(folder, steps) == "rw"
                    and access(str(Path(folder).parent), steps) == "rw"
                ):
                    assert folder in targets, (folder, request)


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
def test_other_paths_of_a_folder_that_is_mounted_twice(
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
"""EROFS for every user; a file mode would not stop root."""

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
def test_a_restriction_applies_inside(me: Person, name: str) -> None:
    (me.folder / "sub" / "deep").mkdir(parents=True)
    (me.folder.parent / "link").symlink_to(me.folder)
    options, found = CASES[name]
    words = [word.format(here=me.folder) for word in options]
    done = me.python(TOUCH.replace("sys.argv[1:]", repr([*found])), *words)
    assert dict(line.split(" ", 1) for line in done.stdout.splitlines()) == found, done.stderr


@pytest.mark.parametrize("way", ["private", "ro", "host"])
def test_a_read_only_folder_cannot_be_renamed(me: Person, way: str) -> None:
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
def test_a_second_mount_of_a_read_only_folder_is_read_only(me: Person, given: str) -> None:
    """A folder that is also mounted in the working folder, or the working folder itself."""
    data = me.folder.parent / "data"
    for folder in (data, me.folder / "seen"):
        folder.mkdir()
    named = [str(data)] if "data" in given else [str(me.folder)]
    code = TOUCH.replace("sys.argv[1:]", "['seen']")
    words = me.command("run", "--ro", *named, "--", sys.executable, "-c", code)
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
def test_a_path_that_is_named_twice_is_rejected(me: Person, words: list[str]) -> None:
    (me.folder.parent / "link").symlink_to(me.folder)
    done = me.run(*(word.format(here=me.folder) for word in words), "--", "true")
    assert done.returncode == 1
    assert done.stderr == f"modelplex: {me.folder} is named by --ro and by --rw: choose one of them.\n"


def test_the_private_folder_of_a_run_is_masked(me: Person) -> None:
    code = "import glob, os; print([os.listdir(found) for found in glob.glob('/tmp/modelplex-run-*') if os.path.ismount(found)])"
    done = me.python(code, "--ro", "/tmp")
    assert done.stdout == "[[]]\n", done.stderr


def test_the_sandboxs_own_folder_cannot_be_mounted(me: Person) -> None:
    done = me.run("--rw", "/run", "--", "true")
    assert done.returncode == 1
    assert "the sandbox has its own /run/modelplex" in done.stderr
