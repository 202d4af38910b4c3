"""The root that is built for a sandbox."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.processes import WAIT_S
from tests.sandbox.sandboxes import Person, allowed, by_either_builder


@pytest.mark.parametrize("way", [[], *([["--bwrap"]] if shutil.which("bwrap") else [])])
def test_an_input_file_cannot_be_reopened_for_writing(who: Person, way: list[str]) -> None:
    given = who.folder / "given"
    given.write_text("one\ntwo\n")
    who.give(given)
    code = (
        "import os, sys\n"
        "sys.stdout.write(sys.stdin.read())\n"
        "try: os.open('/proc/self/fd/0', os.O_WRONLY)\n"
        "except OSError as fault: print(fault.strerror)"
    )
    with given.open("rb") as stream:
        stream.seek(4)
        os.lseek(stream.fileno(), 4, os.SEEK_SET)
        done = subprocess.run(
            who.command("run", "--ro", ".", *way, "--", sys.executable, "-c", code),
            cwd=who.folder,
            env=who.environ,
            stdin=stream,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
    allowed(done.stderr)
    assert done.stdout == "two\nRead-only file system\n", done.stderr
    assert given.read_text() == "one\ntwo\n"


LOOK = """
import os
folders = {name: (sorted(os.listdir(name)), oct(os.stat(name).st_mode & 0o7777)) for name in ("/tmp", "/var/tmp", "/dev/shm")}
print(folders)
print(sorted(os.listdir("/dev")), os.listdir("/sys"), os.readlink("/dev/fd"), os.readlink("/var/run"))
print(all(os.path.isdir("/proc/" + name) for name in ("1", "self")))
open("/dev/null", "w").write("x")
print(len(open("/dev/zero", "rb").read(3)))
"""


def test_the_root_has_its_own_folders_and_harmless_devices(me: Person) -> None:
    done = me.python(LOOK)
    folders, rest, proc, zeros = done.stdout.splitlines()
    expected = {"/tmp": [me.folder.parent.name], "/var/tmp": [], "/dev/shm": []}
    assert folders == str({name: (inside, "0o1777") for name, inside in expected.items()}), done.stderr
    devices = "['fd', 'full', 'null', 'ptmx', 'pts', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'tty', 'urandom', 'zero']"
    assert rest == f"{devices} ['devices'] /proc/self/fd /run"
    assert (proc, zeros) == ("True", "3")


PROCESSORS = """
import os, shutil, subprocess
print(os.cpu_count(), os.sysconf("SC_NPROCESSORS_ONLN"), os.sysconf("SC_NPROCESSORS_CONF"))
print(subprocess.run(["lscpu", "-p=CPU"], capture_output=True, text=True).stdout if shutil.which("lscpu") else "")
"""


@by_either_builder
def test_the_processors_are_told_and_nothing_of_sys_can_be_written(who: Person, builder: list[str]) -> None:
    outside = subprocess.run(
        [sys.executable, "-c", PROCESSORS], capture_output=True, text=True, check=True, timeout=WAIT_S
    ).stdout
    done = who.python(PROCESSORS, *builder)
    assert done.stdout == outside, done.stderr
    code = (
        "import errno, os\n"
        "for path in ('/sys/new', '/sys/devices/system/cpu/uevent', '/sys/devices/system/cpu/cpu0/uevent'):\n"
        "  try: open(path, 'a').write('add'); print('written')\n"
        "  except OSError as fault: print(errno.errorcode[fault.errno])\n"
        "print(os.listdir('/sys/devices'))"
    )
    *refused, seen = who.python(code, *builder).stdout.splitlines()
    assert set(refused) <= {"EROFS", "EACCES"}
    assert seen == "['system']"


def test_settings_of_the_host_are_read_only_for_root(me: Person) -> None:
    code = (
        "import errno, os\n"
        "for path in ('/proc/sys/kernel/hostname', '/proc/sysrq-trigger'):\n"
        "  try: open(path, 'a').write('x'); print('written' if os.stat(path).st_rdev == 0 else 'null')\n"
        "  except OSError as fault: print(errno.errorcode[fault.errno])"
    )
    first, second = me.python(code).stdout.split()
    assert first in {"EROFS", "EACCES"}
    assert second in {"null", "EACCES", "EROFS", "ENOENT"}
