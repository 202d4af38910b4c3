"""Fixtures that more than one room's tests share."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# No test depends on speed, and CI's verdict does not depend on luck: it tries the same examples every time, and new ones are found at a desk.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")

# Loading takes 1 to 4 s, and the first run joins the model's parts; a busy machine takes several times that.
LLAMA_START_LIMIT_S = 45.0
LLAMA_STOP_LIMIT_S = 10.0
LLAMA_SERVER = Path(__file__).parent / "llama_server.py"


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL (`http://127.0.0.1:PORT/v1`) of a real llama.cpp server, for tests marked `real`.

    The model is a base model that rarely stops by itself: set max_tokens, and assert on shapes, usage and ends, never
    on words. It answers to any model name, tells its own as `gemma-3-270m`, and embeds too.
    """
    log = tmp_path_factory.mktemp("llama") / "server.log"
    command = [sys.executable, str(LLAMA_SERVER)]
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as server,
    ):
        try:
            yield f"{_address(server, log=log)}/v1"
        finally:
            server.kill()
            server.wait(LLAMA_STOP_LIMIT_S)


def _address(server: subprocess.Popen[bytes], *, log: Path) -> str:
    assert server.stdout is not None
    ready, _, _ = select.select([server.stdout], [], [], LLAMA_START_LIMIT_S)
    line = server.stdout.readline().decode() if ready else ""
    if not line.startswith("listening on http"):
        end = log.read_text(errors="replace")[-2000:]
        pytest.fail(f"the llama.cpp server did not start within {LLAMA_START_LIMIT_S} s: {line!r}\n{end}")
    return line.removeprefix("listening on ").strip()
