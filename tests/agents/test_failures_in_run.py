"""What the person at the terminal sees of a failure: the agent's own words have the reason, and so
has a line of `modelplex run`, which waits for its end where the agent has the terminal.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Sequence

import pytest

from tests.agents.installed import TIMEOUT_S
from tests.agents.terminals import terminal
from tests.agents.test_agents_errors import DEAD, FEWER_RETRIES, FINE, LIMITED, REFUSED
from tests.agents.test_presets import TASK, ended, installed, somebody
from tests.sandbox.sandboxes import PEOPLE, allowed
from tests.upstreams import Act, provider

pytestmark = [pytest.mark.agents, pytest.mark.timeout(180)]

HEADLESS = {"claude": ["-p", "Hi"], "codex": ["exec", "--skip-git-repo-check", "Hi"]}
KEY_REFUSED = "The provider answered 401: it rejected the API key that the gateway has for it"


def config(url: str) -> str:
    return (
        f'[[providers]]\nname = "up"\ntype = "together"\nbase_url = "{url}"\napi_key = "sk-ours"\n'
        'models = ["up-model", "claude-*", "gpt-*"]\n[failover]\nbackoff = 0.01\n'
    )


def retries() -> Sequence[str]:
    return [word for name, value in FEWER_RETRIES.items() for word in ("--env", f"{name}={value}")]


@pytest.mark.parametrize(
    ("name", "act", "model", "sentence"),
    [
        ("claude", REFUSED, None, KEY_REFUSED),
        ("codex", REFUSED, None, KEY_REFUSED),
        ("claude", None, None, "the provider refused the connection"),
        ("codex", None, None, "the provider refused the connection"),
        ("claude", LIMITED, None, "The provider answered 429"),
        ("claude", FINE, "nothing", "No provider here serves the model 'nothing'"),
        ("codex", FINE, "nothing", "No provider here serves the model 'nothing'"),
    ],
)
async def test_a_failure_is_a_line_beside_the_agents_own_words(
    name: str, act: Act | None, model: str | None, sentence: str
) -> None:
    driven = installed()[name]
    async with provider(act or FINE) as upstream:
        with somebody(PEOPLE[0], driven, name) as (who, environ):
            file = who.folder.parent / "config.toml"
            file.write_text(config(DEAD if act is None else upstream.url))
            words = ["--config", str(file), *retries(), *(["--model", model] if model else [])]
            # In a thread: the provider is served by this loop.

            done = await asyncio.to_thread(
                subprocess.run,
                who.command("run", *words, name, *HEADLESS[name]),
                cwd=who.folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
    allowed(done.stderr)
    # An agent may have written half a line of its own (Codex: a coloured `ERROR:`) when ours comes.
    ours = [line for line in re.findall(r"modelplex run: .*", done.stderr) if sentence in line]
    assert ours, done.stderr
    assert ours[0].startswith(f"modelplex run: {model or 'up'}: ")
    theirs = done.stdout + re.sub(r"modelplex run: .*", "", done.stderr)
    assert done.returncode != 0, theirs
    assert (model or sentence) in theirs.replace('\\"', '"'), theirs


async def test_an_agent_that_has_the_terminal_is_not_disturbed() -> None:
    driven = installed()["claude"]
    async with provider(REFUSED) as upstream:
        with somebody(PEOPLE[0], driven, "claude") as (who, environ):
            file = who.folder.parent / "config.toml"
            file.write_text(config(upstream.url))
            command = who.command("run", "--config", str(file), *retries(), "claude", *driven.arguments)
            async with terminal(command, cwd=who.folder, environ=environ) as screen:
                await screen.expect(driven.ready)
                await screen.type(TASK)
                await screen.expect("it rejected the API key")
                assert b"modelplex run: up:" not in screen.written
                assert await ended(screen, driven) == 0, screen.text
                await screen.expect(f"modelplex run: up: {KEY_REFUSED}")
