"""The gateway of a run: found, started, watched, and stopped."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from modelplex.sandbox.errors import CannotRun
from modelplex.sandbox.run_gateway import RunGateway
from tests.processes import WAIT_S, served
from tests.sandbox.sandboxes import LIST_MODELS, Person


async def test_a_running_gateway_is_used_and_not_stopped(me: Person) -> None:
    async with served('[[providers]]\ntype = "demo"\nname = "mine"', folder=me.folder) as gateway:
        words = ["--socket", gateway.socket, "--", sys.executable, "-c", LIST_MODELS]
        done = me.run(*words)
        assert '"demo"' in done.stdout
        assert (await gateway.ask("GET", "/health")).status == 200


def test_a_missing_gateway_is_reported(me: Person) -> None:
    done = me.run("--socket", "nowhere.sock", "--", "true")
    assert done.returncode == 1
    assert "no gateway listens on" in done.stderr


def test_a_gateway_that_ended_without_output_is_reported(me: Person, tmp_path: Path) -> None:
    """As where /tmp is full."""
    (tmp_path / "log").touch()
    ended = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    ended.wait()
    with pytest.raises(CannotRun) as caught:
        RunGateway(str(tmp_path / "none"), ended, lambda: "").wait_until_listening()
    assert "may be full" in caught.value.sentence


def test_a_gateway_that_does_not_start_shows_its_error(me: Person) -> None:
    (me.folder / "config.toml").write_text("[server]\nnonsense = 1")
    done = me.run("--", "true")
    assert done.returncode == 1
    assert "the gateway did not start" in done.stderr
    assert "nonsense" in done.stderr


@pytest.mark.parametrize("is_configured", [False, True])
def test_the_gateway_has_an_admin_socket_that_the_program_cannot_see(
    who: Person, is_configured: bool
) -> None:
    """Not even with the host's file system."""
    if is_configured:
        (who.folder / "config.toml").write_text('[[providers]]\ntype = "demo"\nname = "mine"\n')
    runs = who.home / ".local" / "state" / "modelplex" / "runs"
    code = (
        "import os, sys\n"
        "print('inside', flush=True)\n"
        "sys.stdin.readline()\n"
        f"print(os.path.exists({str(runs)!r}), os.environ.get('MODELPLEX_RUN'))"
    )
    words = who.command("run", "--fs", "host", "--", sys.executable, "-c", code)
    run = subprocess.Popen(
        words, cwd=who.folder, env=who.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with run:
        assert run.stdin is not None
        assert run.stdout is not None
        assert run.stdout.readline() == "inside\n"
        (socket,) = runs.glob("*.socket")
        assert socket.stat().st_mode & 0o777 == 0o600
        assert re.fullmatch(r"run-[0-9a-f]{8}", socket.stem)
        stop = subprocess.run(
            who.command("stop", "nobody"),
            cwd=who.folder,
            env=who.environ,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert (stop.returncode, stop.stdout, stop.stderr) == (1, "0 calls stopped\n", "")
        out, _ = run.communicate("\n", timeout=WAIT_S)
    assert out == "False None\n"
    assert list(runs.glob("*.socket")) == []


def test_the_log_of_the_gateway_is_on_stderr_with_verbose_only(me: Person) -> None:
    assert me.run("--", "true").stderr == ""
    assert "started" in me.run("--verbose", "--", "true").stderr


def test_the_gateway_imports_nothing_from_the_working_folder(me: Person) -> None:
    (me.folder / "msgspec.py").write_text("raise SystemExit('imported')")
    assert me.run("--", "true").returncode == 0


def test_a_config_that_the_program_can_change_is_not_reloaded(me: Person) -> None:
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
    assert "while the program ran, something changed config.toml here" in err


def test_a_replaced_link_to_the_config_is_not_followed(me: Person) -> None:
    (me.home / "mine.toml").write_text('[[providers]]\ntype = "demo"')
    (me.folder / "config.toml").symlink_to(me.home / "mine.toml")
    assert me.run("--", "true").stderr == ""
    # It looks for changes each second, and a new config may name a command that it is to run.
    (me.folder / "own.toml").write_text('[[providers]]\nname = "own"\ntype = "demo"')
    done = me.python(
        "import os, time\n"
        "os.rename('own.toml', 'config.toml')\n"
        f"ask = {LIST_MODELS.replace('print(', '(').replace('import urllib.request as u; ', '')!r}\n"
        "import urllib.request as u\n"
        "for _ in range(8): answer = eval(ask); time.sleep(0.25)\n"
        "print('owned_by\":\"own' in answer, 'owned_by\":\"demo' in answer)"
    )
    assert done.stdout == "False True\n", done.stderr
    assert "while the program ran, something changed config.toml here" in done.stderr


def test_a_socket_in_use_by_another_process_is_explained(me: Person) -> None:
    ended = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    ended.wait(WAIT_S)
    log = "modelplex: ./m.socket is in use by process 7 (uid 0).\n"
    with pytest.raises(CannotRun) as caught:
        RunGateway(str(me.folder / "none"), ended, lambda: log).wait_until_listening()
    assert "modelplex run --socket ./m.socket -- COMMAND" in caught.value.sentence
