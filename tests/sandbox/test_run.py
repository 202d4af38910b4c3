"""`modelplex run` as its user meets it: status, signals, streams, terminal, files, environment, and
what it says where it cannot.
"""

from __future__ import annotations

import fcntl
import os
import pty
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from modelplex.sandbox import plan
from modelplex.sandbox import run as sandbox
from modelplex.sandbox.cannot_run import CannotRun
from modelplex.sandbox.folders import works_in
from modelplex.sandbox.inside import MOST_COMPLAINTS, Complaints
from tests.peers import node, node_modules
from tests.processes import WAIT_S, served
from tests.sandbox.sandboxes import PROGRAMS, SECRET, Person, allowed

ASK = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:11435/v1/models').read().decode())"
OPENAI = """
import asyncio, os, openai
from openai import AsyncOpenAI, OpenAI

def use(client):
    said = client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "Hi"}])
    assert said.choices[0].message.content
    parts = list(client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "Hi"}], stream=True))
    assert len(parts) > 1
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}}}
    called = client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "Call look"}], tools=[tool], tool_choice="required")
    assert called.choices[0].message.tool_calls[0].function.name == "look"
    answered = client.responses.create(model="demo", input="Hi")
    assert answered.output_text

use(OpenAI())
use(OpenAI(base_url="unix:" + os.environ["MODELPLEX_SOCKET"], api_key="unused"))

async def main():
    client = AsyncOpenAI(base_url="unix:" + os.environ["MODELPLEX_SOCKET"])
    stream = await client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "Hi"}], stream=True)
    assert [part async for part in stream]

asyncio.run(main())
print("done", openai.__name__)
"""
OPENAI_NODE = """
import { createRequire } from "node:module";
const OpenAI = createRequire(process.env.MODULES)("openai");
for (const base of [process.env.OPENAI_BASE_URL, "unix:" + process.env.MODELPLEX_SOCKET]) {
  const client = new OpenAI({ baseURL: base });
  const messages = [{ role: "user", content: "Hi" }];
  const said = await client.chat.completions.create({ model: "demo", messages });
  if (!said.choices[0].message.content) throw new Error("no answer");
  let parts = 0;
  for await (const part of await client.chat.completions.create({ model: "demo", messages, stream: true })) parts += 1;
  if (parts < 2) throw new Error("no stream");
  const tools = [{ type: "function", function: { name: "look", parameters: { type: "object", properties: {} } } }];
  const called = await client.chat.completions.create({ model: "demo", messages, tools, tool_choice: "required" });
  if (called.choices[0].message.tool_calls[0].function.name !== "look") throw new Error("no tool call");
}
console.log("done");
"""


by_either_builder = pytest.mark.parametrize(
    "builder",
    [
        pytest.param([], id="own"),
        pytest.param(
            ["--bwrap"],
            id="bwrap",
            marks=pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
        ),
    ],
)


def test_the_check_finds_every_way_closed_and_the_gateway_open(who: Person) -> None:
    done = who.run("--check")
    assert done.returncode == 0, done.stdout
    assert "FAILED" not in done.stdout
    assert "AF_VSOCK: Address family not supported" in done.stdout
    assert done.stdout.count("it answers") == 2


def test_the_check_fails_where_there_is_a_way_out(who: Person) -> None:
    code = "import sys; from modelplex.sandbox.check import main; sys.exit(main())"
    done = subprocess.run(
        [*who.words, sys.executable, "-c", code],
        cwd=who.folder,
        env=who.environ,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 1
    assert "FAILED" in done.stdout


@pytest.mark.parametrize("way", ["private", "ro", "host"])
@by_either_builder
def test_it_reaches_the_gateway_however_the_files_are_shown(
    who: Person, way: str, builder: list[str]
) -> None:
    done = who.run("--fs", way, *builder, "--", sys.executable, "-c", ASK)
    assert '"demo"' in done.stdout, done.stderr
    assert done.stderr == ""


def test_the_official_python_client_chats_streams_and_calls_tools(who: Person) -> None:
    done = who.python(OPENAI)
    assert done.stdout == "done openai\n", done.stderr


def test_the_official_node_client_chats_streams_and_calls_tools(who: Person) -> None:
    modules = node_modules()
    (who.folder / "a.mjs").write_text(OPENAI_NODE)
    words = ["--ro", str(modules), "--ro", str(node()), "--env", f"MODULES={modules}/"]
    done = who.run(*words, "--", str(node()), "a.mjs")
    assert done.stdout == "done\n", done.stderr


def test_netlink_is_there_where_it_is_asked_for(me: Person) -> None:
    code = "require('os').networkInterfaces(); console.log('told')"
    words = ["--ro", str(node())]
    assert "told" in me.run("--netlink", *words, "--", str(node()), "-e", code).stdout
    assert "told" not in me.run(*words, "--", str(node()), "-e", code).stdout


def test_the_status_is_the_program_s(me: Person) -> None:
    assert me.run("--", "sh", "-c", "exit 7").returncode == 7
    assert me.run("--", "sh", "-c", "kill -KILL $$").returncode == 128 + signal.SIGKILL
    missing = me.run("--", "no-such-program")
    assert missing.returncode == 127
    assert "there is no no-such-program inside" in missing.stderr
    (me.folder / "plain").write_text("x")
    assert me.run("--", "./plain").returncode == 126


def test_standard_input_and_output_pass_through(me: Person) -> None:
    done = me.run("--", "sh", "-c", "cat; echo error >&2", stdin="a line\n")
    assert (done.stdout, done.stderr) == ("a line\n", "error\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_is_passed_on_and_the_program_decides(me: Person, number: signal.Signals) -> None:
    code = f"import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [{int(number)}]); print('up', flush=True); print(signal.sigwait([{int(number)}]).name)"
    popen = subprocess.Popen(
        me.command("run", "--", sys.executable, "-c", code),
        cwd=me.folder,
        env=me.environ,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert popen.stdout is not None
    assert popen.stdout.readline() == "up\n"
    popen.send_signal(number)
    out, _ = popen.communicate(timeout=WAIT_S)
    assert (out, popen.returncode) == (number.name + "\n", 0)


def test_what_nohup_ignores_stays_ignored(me: Person) -> None:
    code = "import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    words = me.command("run", "--", sys.executable, "-c", code)
    done = subprocess.run(
        ["/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh", *words],
        cwd=me.folder,
        env=me.environ,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.stdout == "True True\n", done.stderr


def test_a_program_that_a_signal_ends_gives_its_number(me: Person) -> None:
    popen = subprocess.Popen(
        me.command("run", "--", sys.executable, "-c", "print('up', flush=True); input()"),
        cwd=me.folder,
        env=me.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert popen.stdout is not None
    assert popen.stdout.readline() == "up\n"
    popen.terminate()
    popen.wait(WAIT_S)  # its stdin stays open meanwhile: at its end the program would end by itself
    popen.communicate()
    assert popen.returncode == 128 + signal.SIGTERM


def test_everything_inside_ends_with_the_program_and_with_us(me: Person) -> None:
    """A file that a forgotten child holds locked is free again; and when the launcher is killed
    nothing stays either, the gateway included.
    """
    code = (
        "import fcntl, os, sys, time\n"
        "held = open('held', 'w'); fcntl.flock(held, 2)\n"
        "if os.fork() == 0:\n  os.setsid(); time.sleep(600)\n"
        "print('up', flush=True)\n"
        "if sys.argv[1] == 'wait': time.sleep(600)"
    )
    assert me.run("--", sys.executable, "-c", code, "end").stdout == "up\n"
    assert _is_free(me.folder / "held")
    popen = subprocess.Popen(
        me.command("run", "--", sys.executable, "-c", code, "wait"),
        cwd=me.folder,
        env=me.environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert popen.stdout is not None
    assert popen.stdout.readline() == "up\n"
    below = _below(popen.pid)
    assert len(below) >= 2
    assert not _is_free(me.folder / "held")
    popen.kill()
    popen.communicate(timeout=WAIT_S)
    deadline = time.monotonic() + WAIT_S
    while not _is_free(me.folder / "held") or any(_runs(pid) for pid in below):
        assert time.monotonic() < deadline, below
        threading.Event().wait(0.02)


def _below(pid: int) -> list[int]:
    found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [deeper for each in found for deeper in _below(each)]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _is_free(path: Path) -> bool:
    import fcntl

    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


# --- the terminal ---


class Terminal:
    """`modelplex run` in a terminal of its own, as a shell's foreground job."""

    def __init__(self, who: Person, *command: str) -> None:
        pid, self.master = pty.fork()
        if pid == 0:
            os.chdir(who.folder)
            words = who.command("run", *command)
            os.execve(words[0], words, who.environ)
        self.pid = pid
        self.said = b""

    def until(self, text: bytes) -> None:
        deadline = time.monotonic() + WAIT_S
        while text not in self.said:
            assert time.monotonic() < deadline, self.said
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.said += os.read(self.master, 4096)
                except OSError:
                    break
        allowed(self.said.decode(errors="replace"))
        assert text in self.said, self.said

    def hang_up(self) -> int:
        """The terminal goes before the program does."""
        os.close(self.master)
        deadline = time.monotonic() + WAIT_S
        while not (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                pytest.fail("it goes on without its terminal")
            threading.Event().wait(0.02)
        return os.waitstatus_to_exitcode(ended[1])

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def end(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        os.close(self.master)
        return os.waitstatus_to_exitcode(status)


def test_a_program_in_a_terminal_has_it(me: Person) -> None:
    terminal = Terminal(me, "--", "sh", "-c", "test -t 0 && read line && echo got $line && stty size")
    terminal.type(b"words\n")
    terminal.until(b"got words")
    assert terminal.end() == 0


def test_ctrl_c_reaches_the_program_once(me: Person) -> None:
    code = (
        "import signal, sys\n"
        "seen = []\n"
        "signal.signal(signal.SIGINT, lambda *_: seen.append(1))\n"
        "print('up', flush=True)\n"
        "sys.stdin.readline()\n"
        "print('interrupts:', len(seen), flush=True)"
    )
    terminal = Terminal(me, "--", sys.executable, "-c", code)
    terminal.until(b"up")
    terminal.type(b"\x03")
    terminal.until(b"^C")
    terminal.type(b"\n")
    terminal.until(b"interrupts: 1")
    assert terminal.end() == 0


def test_a_program_is_told_that_its_terminal_has_gone(me: Person) -> None:
    code = (
        "import signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])\n"
        "print('up', flush=True)\n"
        "open('told', 'w').write(signal.sigwait([signal.SIGHUP]).name)\n"
        "raise SystemExit(5)"
    )
    terminal = Terminal(me, "--", sys.executable, "-c", code)
    terminal.until(b"up")
    assert terminal.hang_up() == 5
    assert (me.folder / "told").read_text() == "SIGHUP"


def test_a_shell_inside_has_job_control_and_gives_the_terminal_back(me: Person) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    terminal = Terminal(me, "--", bash, "--norc", "-i")
    terminal.type(b"set -m; sleep 600 & jobs; kill %1; exit 3\n")
    terminal.until(b"sleep 600 &\r\n")
    assert terminal.end() == 3
    assert b"no job control" not in terminal.said


def test_nothing_can_be_typed_into_the_terminal_from_inside(me: Person) -> None:
    code = "import fcntl; fcntl.ioctl(0, 0x5412, b'x')"
    terminal = Terminal(me, "--", sys.executable, "-c", code)
    terminal.until(b"PermissionError")
    terminal.end()


# --- files ---


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


def test_what_is_named_is_shown_and_no_more(me: Person) -> None:
    shown, writable = me.folder.parent / "shown", me.folder.parent / "writable"
    for folder in (shown, writable):
        folder.mkdir()
        (folder / "f").write_text("x")
    code = f"import os; print(os.listdir({str(me.folder.parent)!r})); open({str(writable / 'g')!r}, 'w'); open({str(shown / 'g')!r}, 'w')"
    done = me.python(code, "--ro", str(shown), "--rw", str(writable))
    assert "Read-only file system" in done.stderr
    assert sorted(eval(done.stdout)) == ["home", "shown", "work", "writable"]
    assert (writable / "g").exists()


def test_a_home_folder_is_not_shared_by_being_stood_in(me: Person) -> None:
    (me.folder / "key").write_text(SECRET)
    done = me.run(
        "--", sys.executable, "-c", "import os; print(os.listdir('.'))", environ={"HOME": str(me.folder)}
    )
    assert done.stdout == "[]\n"
    assert "is not shared" in done.stderr


def test_the_config_with_its_keys_is_covered_and_stays_so(me: Person) -> None:
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
def test_a_folder_of_the_system_s_or_of_everybody_s_is_not_written_to(
    me: Person, folder: str, way: str
) -> None:
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


def test_a_home_folder_stays_hidden_from_who_became_root_in_it(me: Person) -> None:
    """As sudo does it: HOME is root's, SUDO_UID says who it was."""
    if os.geteuid() != 0:
        pytest.skip("for root to try")
    own = pwd.getpwuid(65534).pw_dir
    assert not works_in("/home/alice", homes=["/root", "/home/alice"])
    assert works_in("/home/alice/project", homes=["/root", "/home/alice", own])
    assert plan.homes()[0] == os.path.realpath(pwd.getpwuid(0).pw_dir)


def test_who_it_was_that_became_root_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    someone = next(entry for entry in pwd.getpwall() if entry.pw_uid and entry.pw_dir not in {"/", ""})
    monkeypatch.setenv("SUDO_UID", str(someone.pw_uid))
    assert os.path.realpath(someone.pw_dir) in plan.homes()
    monkeypatch.setenv("SUDO_UID", "99999999999999999999")
    plan.homes()


@pytest.mark.parametrize("path", ["/", "/proc", "/sys/class", "/dev/null"])
def test_what_cannot_be_shown_is_told_of(me: Person, path: str) -> None:
    for option in ("--ro", "--rw"):
        done = me.run(option, path, "--", "true")
        assert done.returncode == 1
        assert "shown" in done.stderr


def test_a_working_folder_that_is_gone_is_told_of(me: Person) -> None:
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


def test_what_the_gateway_keeps_is_covered_from_its_first_start_on(me: Person) -> None:
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
def test_another_listens_in_the_place_of_no_socket_of_the_gateway_s(me: Person, builder: list[str]) -> None:
    """Whoever connected there would tell the program what is meant for the gateway."""
    config = '[[providers]]\ntype = "demo"\n[[agents]]\nname = "a"\nsocket = "./a.socket"\n[[agents]]\nname = "b"\ntoken = "${MY_API_KEY}"'
    (me.folder / "config.toml").write_text(config)
    code = (
        "import os, errno, socket\n"
        "for go in (lambda: os.unlink('a.socket'), lambda: os.rename('a.socket', 'x'), lambda: socket.socket(socket.AF_UNIX).connect('a.socket')):\n"
        "  try: go(); print('done')\n"
        "  except OSError as fault: print(errno.errorcode[fault.errno])"
    )
    done = me.python(code, "--agent", "a", *builder)
    assert done.stdout.split() == ["EBUSY", "EBUSY", "ECONNREFUSED"], done.stderr


def test_a_config_that_an_editor_replaced_and_the_program_changed_is_not_loaded(me: Person) -> None:
    """By which a command of the program's would run outside."""
    config = me.folder / "config.toml"
    config.write_text('[[providers]]\ntype = "demo"')
    code = (
        "import sys, time, urllib.request as u\n"
        "print('up', flush=True); sys.stdin.readline()\n"
        "open('config.toml', 'w').write('[[providers]]\\nname = \"own\"\\ntype = \"demo\"')\n"
        "for _ in range(8): answer = u.urlopen('http://127.0.0.1:11435/v1/models').read(); time.sleep(0.25)\n"
        "print(b'\"own\"' in answer)"
    )
    popen = subprocess.Popen(
        me.command("run", "--", sys.executable, "-c", code),
        cwd=me.folder,
        env=me.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert popen.stdout is not None
    assert popen.stdout.readline() == "up\n"
    (me.folder / "new").write_text(config.read_text())
    (me.folder / "new").replace(config)
    out, err = popen.communicate("\n", timeout=WAIT_S)
    assert out == "False\n", err
    assert "own" in config.read_text()
    assert "while the program ran this has changed: config.toml here" in err


def test_a_config_that_is_a_link_and_is_replaced_is_told_of(me: Person) -> None:
    (me.home / "mine.toml").write_text('[[providers]]\ntype = "demo"')
    (me.folder / "config.toml").symlink_to(me.home / "mine.toml")
    assert me.run("--", "true").stderr == ""
    # It looks for changes each second, and a new config may name a command that it is to run.
    (me.folder / "own.toml").write_text('[[providers]]\nname = "own"\ntype = "demo"')
    done = me.python(
        "import os, time\n"
        "os.rename('own.toml', 'config.toml')\n"
        f"ask = {ASK.replace('print(', '(').replace('import urllib.request as u; ', '')!r}\n"
        "import urllib.request as u\n"
        "for _ in range(8): answer = eval(ask); time.sleep(0.25)\n"
        "print('owned_by\":\"own' in answer, 'owned_by\":\"demo' in answer)"
    )
    assert done.stdout == "False True\n", done.stderr
    assert "while the program ran this has changed: config.toml here" in done.stderr


def test_approvals_of_tools_that_the_program_leaves_behind_are_told_of(me: Person) -> None:
    done = me.run("--", "sh", "-c", "echo > modelplex.mcp.lock")
    assert "has made a modelplex.mcp.lock here" in done.stderr


def test_a_config_that_the_program_leaves_behind_is_told_of(me: Person) -> None:
    done = me.run("--", "sh", "-c", "echo > config.toml")
    assert "has made a config.toml here" in done.stderr


# --- the environment ---


def test_a_variable_is_passed_on_where_it_is_named(me: Person) -> None:
    code = (
        "import os; print(os.environ.get('MY_API_KEY'), os.environ.get('MINE'), os.environ['OPENAI_API_KEY'])"
    )
    assert me.python(code).stdout == "None None unused\n"
    done = me.python(code, "--env", "MY_API_KEY", "--env", "MINE=a=b", "--env", "OPENAI_API_KEY=x")
    assert done.stdout == f"{SECRET} a=b x\n"


# --- the gateway ---


async def test_a_gateway_that_runs_already_is_used_and_survived(me: Person) -> None:
    async with served('[[providers]]\ntype = "demo"\nname = "mine"', folder=me.folder) as gateway:
        words = ["--socket", gateway.socket, "--", sys.executable, "-c", ASK]
        done = me.run(*words)
        assert '"demo"' in done.stdout
        assert (await gateway.ask("GET", "/health")).status == 200


async def test_the_bridge_follows_no_link_that_the_program_puts_in_the_gateway_s_place(me: Person) -> None:
    """The gateway is started again, by which the cover on its socket is gone, and stops."""
    config = '[[providers]]\ntype = "demo"'
    prize = me.home / "prize.sock"
    code = (
        "import os, sys, socket\n"
        "sys.stdout.write('up\\n'); sys.stdout.flush(); sys.stdin.readline()\n"
        "name = sys.argv[1]\n"
        "if os.path.lexists(name): os.unlink(name)\n"
        f"os.symlink({str(prize)!r}, name)\n"
        "s = socket.create_connection(('127.0.0.1', 11435), 10); s.settimeout(10)\n"
        "try: print('said', s.recv(5))\n"
        "except OSError: print('said', b'')"
    )
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(prize))
        server.listen()
        server.settimeout(WAIT_S)
        threading.Thread(target=_greet, args=(server,), daemon=True).start()
        async with served(config, folder=me.folder) as gateway:
            name = gateway.socket
            popen = subprocess.Popen(  # noqa: ASYNC220
                me.command("run", "--socket", name, "--", sys.executable, "-c", code, name),
                cwd=me.folder,
                env=me.environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert popen.stdout is not None
            assert popen.stdout.readline() == "up\n"
        async with served(config, folder=me.folder):
            pass
        out, _ = popen.communicate("\n", timeout=WAIT_S)
        assert out == "said b''\n"
        assert Path(name).is_symlink()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(name)
            assert client.recv(5) == b"PRIZE"


def _greet(server: socket.socket) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        client.sendall(b"PRIZE")
        client.close()


async def test_a_gateway_may_start_again_while_the_program_runs(me: Person) -> None:
    config = '[[providers]]\ntype = "demo"'
    code = f"{ASK}\ninput()\n{ASK}"
    async with served(config, folder=me.folder) as gateway:
        popen = subprocess.Popen(  # noqa: ASYNC220
            me.command("run", "--socket", gateway.socket, "--", sys.executable, "-uc", code),
            cwd=me.folder,
            env=me.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert popen.stdout is not None
        assert '"demo"' in popen.stdout.readline()
    async with served(config, folder=me.folder):
        out, _ = popen.communicate("\n", timeout=WAIT_S)
        assert '"demo"' in out


def test_a_program_fills_no_disk_with_what_the_bridge_complains_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tell = Complaints()
    for _ in range(MOST_COMPLAINTS * 3):
        tell("refused")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == MOST_COMPLAINTS
    assert said[-1].endswith("no more is said of such")


def test_a_gateway_that_is_not_there_is_told_of(me: Person) -> None:
    done = me.run("--socket", "nowhere.sock", "--", "true")
    assert done.returncode == 1
    assert "no gateway listens on" in done.stderr


def test_a_gateway_that_could_not_even_say_why_is_told_of(me: Person, tmp_path: Path) -> None:
    """As where /tmp is full."""
    (tmp_path / "log").touch()
    ended = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    ended.wait()
    with pytest.raises(CannotRun) as caught:
        sandbox._Started(str(tmp_path / "none"), ended, lambda: "").wait()
    assert "no room for it" in caught.value.sentence


def test_a_gateway_that_does_not_start_says_why(me: Person) -> None:
    (me.folder / "config.toml").write_text("[server]\nnonsense = 1")
    done = me.run("--", "true")
    assert done.returncode == 1
    assert "the gateway did not start" in done.stderr
    assert "nonsense" in done.stderr


def test_the_gateway_speaks_into_the_terminal_only_where_that_is_asked_for(me: Person) -> None:
    assert me.run("--", "true").stderr == ""
    assert "started" in me.run("--verbose", "--", "true").stderr


def test_the_folder_of_a_run_is_ours_alone_and_does_not_stay() -> None:
    with sandbox._private_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "log").write_text("x")
    assert not folder.exists()


def test_code_that_the_program_leaves_here_is_not_imported_by_the_gateway(me: Person) -> None:
    (me.folder / "msgspec.py").write_text("raise SystemExit('imported')")
    assert me.run("--", "true").returncode == 0


# --- refusals ---


def test_a_stream_that_leads_out_is_refused(me: Person) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        done = subprocess.run(
            me.command("run", "--", "true"),
            cwd=me.folder,
            env=me.environ,
            stdin=udp.fileno(),
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
    assert done.returncode == 1
    assert "its standard input is a socket that could reach the host's network" in done.stderr


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_stream_that_is_closed_is_dev_null_inside(me: Person, number: int) -> None:
    (me.folder / "look.py").write_text(
        "import os; open('seen', 'w').write(str([os.readlink(f'/proc/self/fd/{n}') for n in range(3)]))"
    )
    done = subprocess.run(
        [
            "/bin/sh",
            "-c",
            f'exec "$@" {number}<&-',
            "sh",
            *me.command("run", "--", sys.executable, "look.py"),
        ],
        cwd=me.folder,
        env=me.environ,
        stdin=subprocess.PIPE,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    allowed(done.stderr)
    assert done.returncode == 0, done.stderr
    seen = eval((me.folder / "seen").read_text())
    assert [name == "/dev/null" for name in seen] == [each == number for each in range(3)], seen


def test_a_stream_that_is_a_device_or_the_kernel_s_own_is_refused(me: Person) -> None:
    epoll = select.epoll()
    made = [os.eventfd(0), epoll.fileno()]
    if os.geteuid() == 0 and Path("/dev/kmsg").exists():
        made.append(os.open("/dev/kmsg", os.O_RDONLY))
    for number in made:
        done = subprocess.run(
            me.command("run", "--", "true"),
            cwd=me.folder,
            env=me.environ,
            stdin=number,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert done.returncode == 1
        assert "by which it might leave the sandbox" in done.stderr
    for number in (*made[:1], *made[2:]):
        os.close(number)
    epoll.close()


@pytest.mark.parametrize(
    "path",
    [
        "/proc/self/mem",
        "/proc/cpuinfo",
        "/proc/self/ns/net",
        "/proc/self/ns/mnt",
        "/sys/kernel/uevent_seqnum",
    ],
)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_stream_on_a_file_system_of_the_kernel_s_is_refused(me: Person, path: str, number: int) -> None:
    """Such a file looks like any other: S_ISREG holds."""
    if not os.access(path, os.R_OK):
        pytest.skip(f"{path} is not to be had here")
    opened = os.open(path, os.O_RDONLY)
    streams = [subprocess.PIPE] * 3
    streams[number] = opened
    popen = subprocess.Popen(
        me.command("run", "--", "true"),
        cwd=me.folder,
        env=me.environ,
        stdin=streams[0],
        stdout=streams[1],
        stderr=streams[2],
    )
    os.close(opened)
    _, said = popen.communicate(timeout=WAIT_S)
    # 120 is Python's own, where stderr cannot be written to.
    assert popen.returncode == (1 if number != 2 else 120)
    if number != 2:
        assert b"by which it might leave the sandbox" in said


def test_files_of_every_kind_of_storage_are_streams(me: Person) -> None:
    """On a disk, in memory, and without a name."""
    for made in (os.memfd_create("m"), os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR)):
        os.write(made, b"there")
        os.lseek(made, 0, os.SEEK_SET)
        done = subprocess.run(
            me.command("run", "--", "cat"),
            cwd=me.folder,
            env=me.environ,
            stdin=made,
            capture_output=True,
            timeout=WAIT_S,
            check=False,
        )
        os.close(made)
        assert done.stdout == b"there", done.stderr


@pytest.mark.parametrize("way", [[], *([["--bwrap"]] if shutil.which("bwrap") else [])])
def test_a_file_that_is_read_from_cannot_be_written_to_by_its_descriptor(who: Person, way: list[str]) -> None:
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


def test_a_file_that_is_not_at_its_path_is_refused(me: Person) -> None:
    """Nothing could be put between the program and it."""
    given = me.folder / "given"
    given.write_text("text")
    with given.open() as stream:
        os.link(given, me.folder / "other")
        given.unlink()
        done = subprocess.run(
            me.command("run", "--", "cat"),
            cwd=me.folder,
            env=me.environ,
            stdin=stream,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
    assert done.returncode == 1
    assert "is a file that this user does not find at" in done.stderr


def test_words_that_no_program_can_be_started_by_are_told_of(me: Person) -> None:
    done = me.run("--env", "=x", "--", "true")
    assert (done.returncode, "--env needs a variable's name" in done.stderr) == (2, True)
    odd = os.fsdecode(b"./no\xff")
    done = me.run("--", odd)
    assert done.returncode == 127
    assert "there is no ./no? inside" in done.stderr


def test_odd_words_and_ten_thousand_of_them_arrive(me: Person) -> None:
    words = [os.fsdecode(b"\xff\xfe"), "two words", "two\nlines", "", "--", *map(str, range(10_000))]
    code = "import os, sys; os.write(1, ascii(sys.argv[1:]).encode())"
    done = me.run("--", sys.executable, "-c", code, *words)
    assert eval(done.stdout) == words


def test_a_program_that_made_itself_unreadable_reaches_its_own_sockets(who: Person) -> None:
    """As agents that hold keys do, and another gateway."""
    code = (
        "import ctypes, socket\n"
        "server = socket.socket(socket.AF_UNIX); server.bind('/tmp/s'); server.listen()\n"
        "ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n"
        "socket.socket(socket.AF_UNIX).connect('/tmp/s'); print('reached')"
    )
    assert who.python(code).stdout == "reached\n"


def test_inside_itself_it_is_refused_with_a_sentence(who: Person) -> None:
    done = who.run("--", *who.command("run", "--", "true")[len(who.words) :])
    assert done.returncode == 1
    assert "this is inside modelplex run already" in done.stderr


def test_a_program_must_be_named(me: Person) -> None:
    done = me.run()
    assert done.returncode == 2
    assert "modelplex run -- COMMAND" in done.stderr


def test_a_kernel_that_forbids_it_is_told_by_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    said = sandbox._refusal({"errno": 1, "text": "Operation not permitted", "call": "unshare"})
    assert "unshare: Operation not permitted" in said
    assert "user.max_user_namespaces" in said
    monkeypatch.setattr(sandbox, "SWITCHES", {"kernel.ostype": ("Linux", "other")})
    said = sandbox._refusal({"errno": 1, "text": "Operation not permitted", "call": "unshare"})
    assert said.endswith("kernel.ostype is Linux (sysctl -w kernel.ostype=other allows it).")


def test_root_without_user_namespaces_is_contained_all_the_same(me: Person) -> None:
    """Where user.max_user_namespaces is 0, root does without one; no other user can run it."""
    if os.geteuid() != 0:
        pytest.skip("for root to try")
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / "without_user_namespaces.py"), *me.command("run", "--check")],
        cwd=me.folder,
        env=me.environ,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    allowed(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "capabilities: none" in done.stdout


def test_what_a_killed_run_left_is_taken_away_by_the_next_and_a_live_ones_is_not(me: Person) -> None:
    old = time.time() - 3600
    left, live, new = (Path(tempfile.mkdtemp(prefix="modelplex-run-", dir="/tmp")) for _ in range(3))
    try:
        for folder in (left, live, new):
            (folder / "held").touch()
        for folder in (left, live):
            os.utime(folder, (old, old))
        with (live / "held").open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert me.run("--", "true").returncode == 0
        assert [folder.exists() for folder in (left, live, new)] == [False, True, True]
    finally:
        for folder in (left, live, new):
            shutil.rmtree(folder, ignore_errors=True)
