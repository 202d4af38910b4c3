"""Options from --profile and from a project's modelplex.toml: what each may do, the question."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelplex.command_options import parse
from modelplex.sandbox.errors import CannotRun, WrongArguments
from modelplex.sandbox.profile import (
    KEYS,
    acceptance_key,
    apply_profiles,
    read_profile,
    widenings,
)
from modelplex.sandbox.values import PublishedPort
from tests.processes import WAIT_S
from tests.sandbox.sandboxes import SECRET, Person

FULL = """
fs = "ro"
ro = [".", "/usr/share"]
rw = ["out"]
env = ["CI", "A=1"]
publish = [3000, "8080:80"]
allow_port = [5432]
packages = ["pypi"]
allow_package = ["pypi:hatchling"]
min_age = "7d"
memory = "2G"
cpus = 1.5
pids = 300
time = "30m"
netlink = true
protect = true
show_env = true
"""


def written(folder: Path, text: str, name: str = "modelplex.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def applied(*words: str) -> tuple[Any, list[str]]:
    arguments = parse(["run", *words, "prog"])
    reports: list[str] = []
    apply_profiles(arguments, report=reports.append)
    return arguments, reports


def test_every_option_has_a_key(tmp_path: Path) -> None:
    profile = read_profile(str(written(tmp_path, FULL)))
    assert set(profile.options) == set(KEYS)
    assert profile.options["ro"] == [str(tmp_path), "/usr/share"]
    assert profile.options["publish"] == [PublishedPort(3000, 3000), PublishedPort(8080, 80)]
    assert (profile.options["memory"], profile.options["cpus"], profile.options["time"]) == (
        2 << 30,
        1.5,
        1800,
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("memroy = '2G'", 'no option "memroy"; did you mean "memory"?'),
        ("zzz = 1", 'no option "zzz". Options: fs, ro,'),
        ("memory = 'x'", 'memory: "x" is no size'),
        ("memory = true", "memory: give a text or a number"),
        ("ro = '.'", "ro: give a list"),
        ("ro = ['']", "ro: give a text or a number"),
        ("netlink = 1", "netlink: give true or false"),
        ("fs = 'all'", "fs: give private, ro, host"),
        ("publish = ['x']", 'publish: "x" is no port'),
        ("= 1", "is not TOML"),
        ("# " + "x" * 70_000, "has more than 65536 bytes"),
    ],
)
def test_a_wrong_profile_is_named(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(WrongArguments) as raised:
        read_profile(str(written(tmp_path, text)))
    assert fault in raised.value.sentence


def test_a_named_profile_holds_like_options_before_the_command_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, FULL.replace("protect = true", "protect = false"), "own.toml")
    arguments, reports = applied("--profile", str(path), "--memory", "4G", "--ro", "mine", "--fs", "private")
    assert (arguments.memory, arguments.fs, arguments.pids) == (4 << 30, "private", 300)
    assert arguments.ro == [str(tmp_path), "/usr/share", "mine"]
    assert (arguments.no_protect, arguments.netlink, arguments.show_env) == (True, True, True)
    assert reports == []


def test_a_project_may_narrow_without_a_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    written(tmp_path, 'ro = ["docs"]\nenv = ["A=1"]\nmemory = "2G"\ntime = "30m"\npids = 50\nprotect = true')
    arguments, reports = applied("--memory", "1G", "--time", "1h", "--no-protect")
    assert (arguments.memory, arguments.time, arguments.pids) == (1 << 30, 1800, 50)
    assert arguments.ro == [str(tmp_path / "docs")]
    assert not arguments.no_protect
    assert reports == ["options of modelplex.toml: ro, env, memory, time, pids, protect (--no-profile)"]
    assert applied("--no-profile")[0].memory is None


def test_what_a_project_widens_is_refused_without_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("x")
    written(tmp_path, FULL.replace('"."', '".env"'))
    with pytest.raises(CannotRun) as raised:
        applied()
    for phrase in (
        "read all files of this machine",
        f"write to {tmp_path}/out",
        f"read {tmp_path}/.env",
        "read /usr/share",
        "get the variable CI",
        "open its port 80 at 127.0.0.1",
        "connect to 127.0.0.1:5432",
        "list network interfaces",
        "read .env files",
        "--accept-profile",
        "--no-profile",
    ):
        assert phrase in raised.value.sentence
    assert "variable A" not in raised.value.sentence
    arguments, _ = applied("--accept-profile")
    assert (arguments.allow_port, arguments.fs) == ([5432], "ro")


@pytest.mark.parametrize(
    "text", ["fs = 'host'", "protect = false", "rw = ['..']", "rw = ['link']", "rw = ['/etc']"]
)
def test_some_things_only_the_user_may_widen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("/usr")
    written(tmp_path, text)
    with pytest.raises(CannotRun, match="which a project may not ask for"):
        applied("--accept-profile")


def test_an_answer_holds_for_the_file_its_content_and_where_its_links_lead(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    text = 'ro = ["link/x", "/srv"]'
    keys: set[str] = set()
    for folder, more in ((tmp_path, ""), (tmp_path / "other", ""), (tmp_path, "# more")):
        profile = read_profile(str(written(folder, text + more)))
        keys.add(acceptance_key(profile, widenings(profile)))
    (tmp_path / "link").symlink_to("/usr")
    profile = read_profile(str(written(tmp_path, text)))
    keys.add(acceptance_key(profile, widenings(profile)))
    assert len(keys) == 4


def in_terminal(who: Person, answer: bytes, *words: str) -> tuple[int, str]:
    """Status and output of a run whose standard input and error are a terminal."""
    master, slave = pty.openpty()
    popen = subprocess.Popen(
        who.command("run", *words), cwd=who.folder, env=who.environ, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    os.write(master, answer)
    seen = b""
    try:
        while data := os.read(master, 65536):
            seen += data
    except OSError:
        pass  # the terminal's last user has ended
    os.close(master)
    return popen.wait(WAIT_S), seen.decode()


def test_the_user_is_asked_once(me: Person) -> None:
    outside = me.folder.parent / "outside"
    outside.write_text(SECRET)
    path = written(me.folder, 'ro = ["../outside"]')
    words = ["--", "cat", "../outside"]
    assert me.run(*words).returncode == 1
    status, seen = in_terminal(me, b"\n", *words)
    assert (status, "not accepted" in seen, SECRET in seen) == (1, True, False)
    status, seen = in_terminal(me, b"y\n", *words)
    assert (status, f"read {outside}" in seen, SECRET in seen) == (0, True, True), seen
    done = me.run(*words)
    assert done.stdout == SECRET, done.stderr
    assert "options of modelplex.toml: ro (--no-profile)" in done.stderr
    path.write_text('ro = ["../outside"] # changed')
    assert "Nobody has accepted that" in me.run(*words).stderr


def test_the_program_cannot_change_a_profile_or_accept_one(me: Person) -> None:
    written(me.folder, 'pids = 400\ntime = "1h"' if os.geteuid() else 'time = "1h"')
    written(me.folder, 'time = "2h"', "own.toml")
    state = me.home / ".local" / "state" / "modelplex"
    code = (
        "import os, errno\n"
        "for go in (lambda: open('modelplex.toml', 'w'), lambda: os.rename('own.toml', 'x'), lambda: os.unlink('own.toml'),"
        f" lambda: os.makedirs({str(state)!r} + '/x'), lambda: open({str(state / 'accepted-profiles')!r}, 'w')):\n"
        "  try: go(); print('done')\n"
        "  except OSError as fault: print(errno.errorcode[fault.errno])"
    )
    done = me.run("--profile", "own.toml", "--rw", str(me.home), "--", sys.executable, "-c", code)
    assert done.stdout.split() == ["EROFS", "EBUSY", "EBUSY", "EROFS", "EROFS"], done.stderr
    assert "limits:" in done.stderr
    assert "time 1h" in done.stderr


def test_a_missing_profile_is_named(me: Person) -> None:
    done = me.run("--profile", "no.toml", "--", "true")
    assert (done.returncode, "no.toml cannot be read" in done.stderr) == (2, True)


def test_packages_of_a_project_are_asked_for_and_the_higher_age_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = 'packages = ["npm"]\nallow_package = ["npm:esbuild"]\nmin_age = "7d"\n'
    path = written(tmp_path, text)
    assert widenings(read_profile(str(path))) == [
        "install what its lock files name from npm",
        "install npm:esbuild",
    ]
    found, _ = applied("--accept-profile", "--packages", "pypi", "--min-age", "1d")
    assert (found.packages, found.allow_package, found.min_age) == (["npm", "pypi"], ["npm:esbuild"], 604_800)
    found, _ = applied("--accept-profile", "--min-age", "2w")
    assert found.min_age == 2 * 604_800
    # Without packages the other keys say nothing, and only the age is free.
    written(tmp_path, 'min_age = "7d"\n')
    assert applied()[0].min_age is None
    assert applied("--packages", "npm")[0].min_age == 604_800
    own = str(written(tmp_path, 'packages = ["npm"]\nmin_age = "1d"\n', "own.toml"))
    found, _ = applied("--profile", own, "--min-age", "2d")
    assert (found.packages, found.min_age) == (["npm"], 604_800)
