"""The files of a sandbox: what is shared, writable, masked, or rejected."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from modelplex.sandbox import plan
from modelplex.sandbox.folders import is_working_folder
from tests.processes import WAIT_S
from tests.sandbox.sandboxes import SECRET, Person, allowed, by_either_builder


def test_the_working_folder_is_writable_and_the_home_is_empty(who: Person) -> None:
    code = "import os; open('made', 'w').write('x'); print(sorted(os.listdir(os.environ['HOME']))); open('/etc/hosts').read()"
    (who.home / "token").write_text("t")
    done = who.python(code)
    assert done.stdout == "[]\n", done.stderr
    assert (who.folder / "made").read_text() == "x"


def test_the_system_is_read_only(who: Person) -> None:
    code = (
        "import errno\n"
        "for path in ('/usr/x', '/etc/x'):\n"
        "  try: open(path, 'w')\n"
        "  except OSError as fault: print(errno.errorcode[fault.errno])"
    )
    assert who.python(code).stdout == "EROFS\nEROFS\n"
    assert who.python(code, "--fs", "ro").stdout == "EROFS\nEROFS\n"


def test_only_named_paths_are_mounted(me: Person) -> None:
    shown, writable = me.folder.parent / "shown", me.folder.parent / "writable"
    for folder in (shown, writable):
        folder.mkdir()
        (folder / "f").write_text("x")
    code = f"import os; print(os.listdir({str(me.folder.parent)!r})); open({str(writable / 'g')!r}, 'w'); open({str(shown / 'g')!r}, 'w')"
    done = me.python(code, "--ro", str(shown), "--rw", str(writable))
    assert "Read-only file system" in done.stderr
    assert sorted(eval(done.stdout)) == ["home", "shown", "work", "writable"]
    assert (writable / "g").exists()


def test_a_home_folder_as_working_folder_is_not_shared(me: Person) -> None:
    (me.folder / "key").write_text(SECRET)
    done = me.run(
        "--", sys.executable, "-c", "import os; print(os.listdir('.'))", environ={"HOME": str(me.folder)}
    )
    assert done.stdout == "[]\n"
    assert "is not shared" in done.stderr


def test_the_config_is_masked_and_cannot_be_unmasked(me: Person) -> None:
    (me.folder / "conf").mkdir()
    config = me.folder / "conf" / "mine.toml"
    config.write_text('[[providers]]\ntype = "demo"\n# ' + SECRET)
    code = (
        "import os, errno\n"
        "print(repr(open('conf/mine.toml').read()))\n"
        "for go in (lambda: os.rename('conf', 'elsewhere'), lambda: os.unlink('conf/mine.toml'), lambda: open('conf/mine.toml', 'a').write('x'), "
        "lambda: os.rename('conf/mine.toml', 'conf/x')):\n"
        "  try: go(); print('done')\n"
        "  except OSError as fault: print(errno.errorcode[fault.errno])"
    )
    done = me.python(code, "--config", "conf/mine.toml")
    assert done.stdout.split() == ["''", "EBUSY", "EBUSY", "done", "EBUSY"]
    assert SECRET in config.read_text()
    assert "x" not in config.read_text().replace(SECRET, "")[40:]


@pytest.mark.parametrize(
    "folder", ["/", "/etc", "/usr/bin", "/var", "/home", "/tmp", "/run", "/dev/shm", "/proc", "/root"]
)
@pytest.mark.parametrize("way", ["private", "ro"])
def test_a_folder_of_the_system_is_not_writable(me: Person, folder: str, way: str) -> None:
    name = f"mpx-{os.getpid()}"
    done = subprocess.run(
        me.command("run", "--fs", way, "--", "sh", "-c", f"> {folder}/{name}; > ./{name}; pwd"),
        cwd=folder,
        env=me.environ,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    allowed(done.stderr)
    assert not Path(folder, name).exists()
    assert done.returncode == 0, done.stderr
    assert f"{folder} is not shared" in done.stderr
    assert done.stdout == (f"{me.home}\n" if way == "private" else f"{folder}\n")


def test_the_home_of_the_user_before_sudo_is_not_shared(me: Person) -> None:
    """As sudo does it: HOME is root's, SUDO_UID says who it was."""
    if os.geteuid() != 0:
        pytest.skip("for root to try")
    own = pwd.getpwuid(65534).pw_dir
    assert not is_working_folder("/home/alice", homes=["/root", "/home/alice"])
    assert is_working_folder("/home/alice/project", homes=["/root", "/home/alice", own])
    assert plan.homes()[0] == os.path.realpath(pwd.getpwuid(0).pw_dir)


def test_homes_have_that_of_the_user_before_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    someone = next(entry for entry in pwd.getpwall() if entry.pw_uid and entry.pw_dir not in {"/", ""})
    monkeypatch.setenv("SUDO_UID", str(someone.pw_uid))
    assert os.path.realpath(someone.pw_dir) in plan.homes()
    monkeypatch.setenv("SUDO_UID", "99999999999999999999")
    plan.homes()


@pytest.mark.parametrize("path", ["/", "/proc", "/sys/class", "/dev/null"])
def test_a_path_that_cannot_be_mounted_is_rejected(me: Person, path: str) -> None:
    for option in ("--ro", "--rw"):
        done = me.run(option, path, "--", "true")
        assert done.returncode == 1
        assert "mount" in done.stderr


def test_a_removed_working_folder_is_rejected(me: Person) -> None:
    words = ["/bin/sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "sh"]
    done = subprocess.run(
        [*words, *me.command("run", "--", "true")],
        cwd=me.folder,
        env=me.environ,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 1
    assert "the working folder has been removed" in done.stderr


def test_the_files_of_the_gateway_are_masked_from_its_first_start(me: Person) -> None:
    """The log is made by this very start, the older one and the approvals were there, and so was
    the usual state folder.
    """
    config = '[log]\nfile = "gateway.log"\n[[providers]]\ntype = "demo"'
    (me.folder / "config.toml").write_text(config)
    (me.folder / "gateway.log.1").write_text(SECRET)
    (me.folder / "modelplex.mcp.lock").write_text("version = 1\n")
    state = me.home / ".local" / "state" / "modelplex"
    state.mkdir(parents=True)
    (state / "key").write_text(SECRET)
    code = (
        "import os, errno\n"
        f"for path in ('gateway.log', 'gateway.log.1', 'modelplex.mcp.lock', {str(state / 'key')!r}):\n"
        "  try: print(repr(open(path).read()))\n"
        "  except OSError as fault: print(errno.errorcode[fault.errno])\n"
        "  try: os.rename(path, path + '.moved'); print('moved')\n"
        "  except OSError as fault: print(errno.errorcode[fault.errno])"
    )
    done = me.python(code, "--rw", str(me.home))
    assert done.stdout.split() == ["''", "EBUSY"] * 3 + ["ENOENT", "EROFS"], done.stderr
    assert (me.folder / "gateway.log").read_text()
    assert done.stderr == ""


@by_either_builder
def test_the_program_cannot_replace_a_socket_of_the_gateway(me: Person, builder: list[str]) -> None:
    """Whoever connected there would tell the program what is meant for the gateway. Nor the socket
    at which other runs of the agent attach.
    """
    config = '[[providers]]\ntype = "demo"\n[[agents]]\nname = "a"\nsocket = "./a.socket"\n[[agents]]\nname = "b"\ntoken = "${MY_API_KEY}"'
    (me.folder / "config.toml").write_text(config)
    code = (
        "import os, errno, socket\n"
        "def connect(path): socket.socket(socket.AF_UNIX).connect(path)\n"
        "for path in ('a.socket', 'a.socket.runs'):\n"
        "  for go in (os.unlink, lambda path: os.rename(path, 'x'), connect):\n"
        "    try: go(path); print('done')\n"
        "    except OSError as fault: print(errno.errorcode[fault.errno])"
    )
    done = me.python(code, "--agent", "a", *builder)
    assert done.stdout.split() == ["EBUSY", "EBUSY", "ECONNREFUSED"] * 2, done.stderr


def test_invalid_variables_and_programs_are_rejected(me: Person) -> None:
    done = me.run("--env", "=x", "--", "true")
    assert (done.returncode, "--env needs a variable's name" in done.stderr) == (2, True)
    odd = os.fsdecode(b"./no\xff")
    done = me.run("--", odd)
    assert done.returncode == 127
    assert "there is no program ./no? inside" in done.stderr
