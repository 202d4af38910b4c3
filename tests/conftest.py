"""Fixtures that more than one room's tests share."""

import fcntl
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests import skips

# No test depends on speed, and CI's verdict does not depend on luck: it tries the same examples
# every time, and new ones are found at a desk.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")

# Loading takes 1 to 4 s, and the first run joins the model's parts; a busy machine takes several
# times that.
LLAMA_START_LIMIT_S = 45.0
LLAMA_SERVER = Path(__file__).parent / "llama_server.py"

SHARED = pytest.StashKey[Path]()
"""A folder that all workers of one run share."""
LIFELINE = pytest.StashKey[int]()
"""Held open by the process that started the run: whatever reads the other end sees the end of the
run.
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    skips.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    received: dict[str, Any] | None = getattr(config, "workerinput", None)  # set by pytest-xdist in a worker
    if received is not None:
        config.stash[SHARED] = Path(received["shared"])
        return
    skips.register(config)
    folder = Path(tempfile.mkdtemp(prefix="mpx-shared-"))
    os.mkfifo(folder / "lifeline")
    config.stash[SHARED] = folder
    config.stash[LIFELINE] = os.open(folder / "lifeline", os.O_RDWR)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["shared"] = str(node.config.stash[SHARED])


def pytest_unconfigure(config: pytest.Config) -> None:
    if LIFELINE in config.stash:
        os.close(config.stash[LIFELINE])
        shutil.rmtree(config.stash[SHARED], ignore_errors=True)


@pytest.fixture(scope="session")
def llama(request: pytest.FixtureRequest) -> str:
    """The base URL (`http://127.0.0.1:PORT/v1`) of a real llama.cpp server, for tests marked
    `real`.

    The first test that asks starts it, in whichever worker that is, and it ends with the run: the
    model is loaded once. It is a base model that rarely stops by itself: set max_tokens, and assert
    on shapes, usage and ends, never on words. It answers to any model name, tells its own as
    `gemma-3-270m`, and embeds too.
    """
    shared = request.config.stash[SHARED]
    with (shared / "llama.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # whoever holds it gives up after LLAMA_START_LIMIT_S
        return f"{_llama_address(shared)}/v1"


def _llama_address(shared: Path) -> str:
    """Where the server of this run listens. Starts it where none runs."""
    said = shared / "llama.said"
    if not said.exists():
        _start_llama(shared)
    return said.read_text().removeprefix("listening on ").strip()


def _start_llama(shared: Path) -> None:
    starting, log = shared / "llama.starting", shared / "llama.log"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files = [
        (os.POSIX_SPAWN_OPEN, 0, str(shared / "lifeline"), os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(starting), flags, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, str(log), flags, 0o600),
    ]
    command = [sys.executable, str(LLAMA_SERVER)]
    # No subprocess.Popen, which warns where its process outlives it.
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=files, setpgroup=0)
    end = time.monotonic() + LLAMA_START_LIMIT_S
    while (running := os.waitpid(pid, os.WNOHANG) == (0, 0)) and time.monotonic() < end:
        if starting.exists() and starting.read_text().endswith("\n"):
            starting.rename(shared / "llama.said")
            return
        time.sleep(0.02)
    if running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    end_of_log = log.read_text(errors="replace")[-2000:]
    pytest.fail(f"the llama.cpp server did not start within {LLAMA_START_LIMIT_S} s:\n{end_of_log}")
