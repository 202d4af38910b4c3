"""`modelplex run`: status, signals, terminal, clients, and reasons not to start."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from modelplex.sandbox import run
from tests.peers import node, node_modules
from tests.processes import WAIT_S
from tests.sandbox.sandboxes import Person, allowed

OPENAI = """
import asyncio, os, openai
from openai import AsyncOpenAI, OpenAI

def use(client):
    response = client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "Hi"}])
    assert response.choices[0].message.content
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
  const response = await client.chat.completions.create({ model: "demo", messages });
  if (!response.choices[0].message.content) throw new Error("no answer");
  let parts = 0;
  for await (const part of await client.chat.completions.create({ model: "demo", messages, stream: true })) parts += 1;
  if (parts < 2) throw new Error("no stream");
  const tools = [{ type: "function", function: { name: "look", parameters: { type: "object", properties: {} } } }];
  const called = await client.chat.completions.create({ model: "demo", messages, tools, tool_choice: "required" });
  if (called.choices[0].message.tool_calls[0].function.name !== "look") throw new Error("no tool call");
}
console.log("done");
"""


def test_the_python_sdk_chats_streams_and_calls_tools(who: Person) -> None:
    done = who.python(OPENAI)
    assert done.stdout == "done openai\n", done.stderr


def test_the_node_sdk_chats_streams_and_calls_tools(who: Person) -> None:
    modules = node_modules()
    (who.folder / "a.mjs").write_text(OPENAI_NODE)
    words = ["--ro", str(modules), "--ro", str(node()), "--env", f"MODULES={modules}/"]
    done = who.run(*words, "--", str(node()), "a.mjs")
    assert done.stdout == "done\n", done.stderr


def test_the_status_is_the_programs(me: Person) -> None:
    assert me.run("--", "sh", "-c", "exit 7").returncode == 7
    assert me.run("--", "sh", "-c", "kill -KILL $$").returncode == 128 + signal.SIGKILL
    missing = me.run("--", "no-such-program")
    assert missing.returncode == 127
    assert "there is no program no-such-program inside" in missing.stderr
    (me.folder / "plain").write_text("x")
    assert me.run("--", "./plain").returncode == 126


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_is_forwarded_to_the_program(me: Person, number: signal.Signals) -> None:
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


def test_signals_that_nohup_ignores_stay_ignored(me: Person) -> None:
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


def test_the_status_has_the_signal_that_ended_the_program(me: Person) -> None:
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


class Terminal:
    """`modelplex run` in a terminal of its own, as a shell's foreground job."""

    def __init__(self, who: Person, *command: str) -> None:
        pid, self.master = pty.fork()
        if pid == 0:
            os.chdir(who.folder)
            words = who.command("run", *command)
            os.execve(words[0], words, who.environ)
        self.pid = pid
        self.output = b""

    def until(self, text: bytes) -> None:
        deadline = time.monotonic() + WAIT_S
        while text not in self.output:
            assert time.monotonic() < deadline, self.output
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.output += os.read(self.master, 4096)
                except OSError:
                    break
        allowed(self.output.decode(errors="replace"))
        assert text in self.output, self.output

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


def test_the_program_has_the_terminal(me: Person) -> None:
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


def test_the_program_gets_sighup_from_its_terminal(me: Person) -> None:
    code = (
        "import signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])\n"
        "print('up', flush=True)\n"
        "open('signal', 'w').write(signal.sigwait([signal.SIGHUP]).name)\n"
        "raise SystemExit(5)"
    )
    terminal = Terminal(me, "--", sys.executable, "-c", code)
    terminal.until(b"up")
    assert terminal.hang_up() == 5
    assert (me.folder / "signal").read_text() == "SIGHUP"


def test_a_shell_inside_has_job_control_and_returns_the_terminal(me: Person) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    terminal = Terminal(me, "--", bash, "--norc", "-i")
    terminal.type(b"set -m; sleep 600 & jobs; kill %1; exit 3\n")
    terminal.until(b"sleep 600 &\r\n")
    assert terminal.end() == 3
    assert b"no job control" not in terminal.output


def test_the_program_cannot_inject_into_the_terminal(me: Person) -> None:
    code = "import fcntl; fcntl.ioctl(0, 0x5412, b'x')"
    terminal = Terminal(me, "--", sys.executable, "-c", code)
    terminal.until(b"PermissionError")
    terminal.end()


def test_a_new_lock_file_of_tools_is_reported(me: Person) -> None:
    done = me.run("--", "sh", "-c", "echo > modelplex.mcp.lock")
    assert "the program made modelplex.mcp.lock here" in done.stderr


def test_a_new_config_is_reported(me: Person) -> None:
    done = me.run("--", "sh", "-c", "echo > config.toml")
    assert "the program made config.toml here" in done.stderr


def test_the_private_folder_is_removed() -> None:
    with run._private_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "log").write_text("x")
    assert not folder.exists()


def test_the_folder_of_a_killed_run_is_removed_by_the_next(me: Person) -> None:
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


def test_a_sandbox_in_a_sandbox_is_rejected(who: Person) -> None:
    done = who.run("--", *who.command("run", "--", "true")[len(who.words) :])
    assert done.returncode == 1
    assert "this is inside modelplex run already" in done.stderr


def test_a_program_is_required(me: Person) -> None:
    done = me.run()
    assert done.returncode == 2
    assert "modelplex run -- COMMAND" in done.stderr


def test_a_forbidding_kernel_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = run._explain({"errno": 1, "text": "Operation not permitted", "call": "unshare"})
    assert "unshare: Operation not permitted" in sentence
    assert "user.max_user_namespaces" in sentence
    monkeypatch.setattr(run, "SETTINGS", {"kernel.ostype": ("Linux", "other")})
    sentence = run._explain({"errno": 1, "text": "Operation not permitted", "call": "unshare"})
    assert sentence.endswith("kernel.ostype is Linux (sysctl -w kernel.ostype=other allows it).")
