"""Real, unmodified agents, each in an empty network namespace with only the gateway's Unix socket.

Each does a small task: the model calls a tool, the agent runs it (a file appears), and the model's
last text is streamed. The model is a scripted provider of another dialect than the agent's, so that
every turn is translated both ways. `make agents` installs them and runs these;
docs/how-to/agents.md has the settings.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.agents.installed import BASE, MODULES, PROGRAMS, Done, platform, python, run, script
from tests.agents.scripted import FINAL, SIGNATURE, THOUGHT, Dialect, Play, playing
from tests.gateways import gateway
from tests.peers import ROOT, node

pytestmark = [pytest.mark.agents, pytest.mark.timeout(90)]

TYPES = {"openai": "together", "anthropic": "anthropic", "ollama": "ollama"}
TASK = "Write the marker."
MARKER = "marker.txt"
MODEL = "my-model"
PAGE = ROOT / "docs" / "how-to" / "agents.md"
FILE = re.compile(r"^`~/([^`]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENVIRONMENT = re.compile(r"^Environment:\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = f"printf 'it ran\\n' >> {MARKER}"


@dataclass
class Place:
    """The home and the working folder of an agent."""

    home: Path
    work: Path

    def settings(self, section: str) -> dict[str, str]:
        """Write the files that the page has for this agent. Returns its environment."""
        text = next(part for part in PAGE.read_text().split("\n## ") if part.startswith(f"{section}\n"))
        for path, content in FILE.findall(text):
            file = self.home / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        lines = [line for block in ENVIRONMENT.findall(text) for line in block.splitlines()]
        return dict(line.split("=", 1) for line in lines)


@dataclass
class Agent:
    """`start` returns the command and environment. `tools` are the arguments of the call, by the
    tool's names in versions of the agent. `keeps_thoughts`: the agent sends signed thinking back.
    `socket` is the variable with which it needs no bridge. `text` is for an agent without tools,
    `ends` the last call of one that ends by a call. `runs`: how often it runs two calls that are
    the same, of which Kimi Code runs one.
    """

    start: Callable[[Place], tuple[list[str], Mapping[str, str]]]
    upstream: Dialect
    path: str
    tools: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    text: str = ""
    ends: tuple[str, dict[str, Any]] | None = None
    runs: int = 2
    model: str = MODEL
    keeps_thoughts: bool = False
    socket: str = ""


def _shell(*names: str, **more: Any) -> dict[str, dict[str, Any]]:
    return {name: {"command": SHELL, **more} for name in names}


def _writes() -> dict[str, dict[str, Any]]:
    return {"write_marker": {"text": "it ran\n"}}


# --- commands


def codex(place: Place) -> tuple[list[str], Mapping[str, str]]:
    command = [*script("@openai/codex", "bin/codex.js"), "exec", "--skip-git-repo-check"]
    return [*command, "--dangerously-bypass-approvals-and-sandbox", TASK], place.settings("Codex")


def codex_with_code_mode(place: Place) -> tuple[list[str], Mapping[str, str]]:
    """A model of Codex's catalog with which it sends its tools as an item `additional_tools`."""
    command, environ = codex(place)
    return [*command[:-1], "--model", CODE_MODE, command[-1]], environ


def claude(place: Place) -> tuple[list[str], Mapping[str, str]]:
    command = [platform("@anthropic-ai/claude-code", "claude"), "-p", TASK, "--allowedTools", "Bash"]
    streamed = ["--output-format", "stream-json", "--verbose", "--include-partial-messages"]
    return [*command, *streamed], place.settings("Claude Code")


def opencode(place: Place) -> tuple[list[str], Mapping[str, str]]:
    command = [platform("opencode", "bin", "opencode"), "run", "--format", "json", TASK]
    return command, place.settings("opencode")


def gemini(place: Place) -> tuple[list[str], Mapping[str, str]]:
    command = script("@google/gemini-cli", "bundle/gemini.js")
    flags = ["--model", "gemini-2.5-flash", "--approval-mode", "yolo", "--prompt", TASK]
    return [*command, *flags], place.settings("gemini-cli")


def qwen(place: Place) -> tuple[list[str], Mapping[str, str]]:
    command = script("", "qwen")
    return [*command, "--approval-mode", "yolo", "--prompt", TASK], place.settings("Qwen Code")


def pi(place: Place) -> tuple[list[str], Mapping[str, str]]:
    command = script("@earendil-works/pi-coding-agent", "dist/cli.js")
    return [*command, "--provider", "modelplex", "--model", "my-model", "-p", TASK], place.settings("pi")


def aider(place: Place) -> tuple[list[str], Mapping[str, str]]:
    command = [python("aider"), "-m", "aider", "--model", "openai/my-model", "--edit-format", "whole"]
    quiet = "--no-check-update --no-show-model-warnings --no-analytics --no-git --no-pretty --yes-always"
    return [*command, *quiet.split(), "--message", TASK, MARKER], place.settings("aider")


def llm(place: Place) -> tuple[list[str], Mapping[str, str]]:
    command = [python("toolkits"), "-m", "llm", "-m", "gateway", "--functions", str(PROGRAMS / "tools.py")]
    return [*command, TASK], {**place.settings("llm"), "LLM_USER_PATH": str(place.home / "llm")}


def cline(place: Place) -> tuple[list[str], Mapping[str, str]]:
    command = platform("@cline/cli", "bin", "cline")
    return [command, "--json", TASK], place.settings("Cline")


def continue_cli(place: Place) -> tuple[list[str], Mapping[str, str]]:
    environ = place.settings("Continue")
    config = str(place.home / ".continue" / "config.yaml")
    return [*script("", "cn"), "--config", config, "--auto", "-p", TASK], environ


def kimi(place: Place) -> tuple[list[str], Mapping[str, str]]:
    return [*script("", "kimi"), "-p", TASK], place.settings("Kimi Code")


def mini(place: Place) -> tuple[list[str], Mapping[str, str]]:
    command = [python("older"), "-m", "minisweagent.run.mini", "--model", "openai/my-model", "--yolo"]
    return [*command, "--exit-immediately", "--task", TASK], place.settings("mini-swe-agent")


def openhands(place: Place) -> tuple[list[str], Mapping[str, str]]:
    command = [python("openhands"), "-m", "openhands_cli.entrypoint", "--headless", "--json"]
    return [*command, "--override-with-envs", "--task", TASK], place.settings("OpenHands")


def vibe(place: Place) -> tuple[list[str], Mapping[str, str]]:
    command = [python("vibe"), str(Path(python("vibe")).with_name("vibe")), "--trust", "--auto-approve"]
    return [*command, "--prompt", TASK], place.settings("Mistral Vibe")


def inspect(place: Place) -> tuple[list[str], Mapping[str, str]]:
    return [python("inspect"), str(PROGRAMS / "inspect_task.py")], place.settings("inspect_ai")


def toolkit(name: str, base: str) -> Callable[[Place], tuple[list[str], Mapping[str, str]]]:
    venv = "older" if name == "strands" else "toolkits"

    def start(place: Place) -> tuple[list[str], Mapping[str, str]]:
        command = [python(venv), str(PROGRAMS / "toolkit.py"), name, BASE + base, MODEL, MARKER]
        return command, {
            "OPENAI_BASE_URL": BASE + base,
            "OPENAI_API_KEY": "unused",
            "OLLAMA_HOST": BASE + base,
            "ANTHROPIC_BASE_URL": BASE,
            "ANTHROPIC_API_KEY": "unused",
        }

    return start


def vercel(provider: str) -> Callable[[Place], tuple[list[str], Mapping[str, str]]]:
    def start(place: Place) -> tuple[list[str], Mapping[str, str]]:
        program = [str(node()), str(PROGRAMS / "vercel.mjs"), f"{MODULES}/", provider]
        return [*program, f"{BASE}/v1", MODEL, MARKER], {}

    return start


CODE_MODE = "gpt-5.6-sol"
"""Its tool `exec` takes JavaScript, which calls the shell."""
CODE = f"text((await tools.exec_command({{cmd: {json.dumps(SHELL)}}})).output)"
CHAT, RESPONSES, MESSAGES = "chat/completions", "responses", "messages"
AGENTS: dict[str, Agent] = {
    "codex": Agent(
        codex,
        "anthropic",
        RESPONSES,
        {
            "exec_command": {"cmd": SHELL},
            "shell_command": {"command": SHELL},
            "shell": {"command": ["sh", "-c", SHELL]},
        },
        keeps_thoughts=True,
    ),
    "codex-code-mode": Agent(
        codex_with_code_mode, "openai", RESPONSES, {"functions__exec": {"input": CODE}}, model=CODE_MODE
    ),
    "claude-code": Agent(claude, "openai", MESSAGES, _shell("Bash", description="Writes the marker")),
    "claude-code-on-a-socket": Agent(
        claude,
        "ollama",
        MESSAGES,
        _shell("Bash", description="Writes the marker"),
        socket="ANTHROPIC_UNIX_SOCKET",
    ),
    "opencode": Agent(opencode, "ollama", CHAT, _shell("bash", description="Writes the marker")),
    "gemini-cli": Agent(
        gemini,
        "ollama",
        "generate_content",
        _shell("run_shell_command", description="Writes the marker"),
        model="gemini-2.5-flash",
    ),
    "pi": Agent(pi, "anthropic", CHAT, _shell("bash")),
    "qwen-code": Agent(qwen, "anthropic", CHAT, _shell("run_shell_command", description="Writes the marker")),
    "aider": Agent(aider, "anthropic", CHAT, text=f"{MARKER}\n```\nit ran\n```\n\n"),
    "llm": Agent(llm, "ollama", CHAT, _writes()),
    "openai-agents": Agent(toolkit("openai-agents", "/v1"), "openai", RESPONSES, _writes()),
    "pydantic-ai-chat": Agent(toolkit("pydantic-ai-chat", "/v1"), "anthropic", CHAT, _writes()),
    "pydantic-ai-responses": Agent(toolkit("pydantic-ai-responses", "/v1"), "ollama", RESPONSES, _writes()),
    "pydantic-ai-anthropic": Agent(toolkit("pydantic-ai-anthropic", ""), "openai", MESSAGES, _writes()),
    "vercel-compatible": Agent(vercel("compatible"), "anthropic", CHAT, _writes()),
    "vercel-openai": Agent(vercel("openai"), "ollama", RESPONSES, _writes()),
    "vercel-anthropic": Agent(vercel("anthropic"), "openai", MESSAGES, _writes()),
    "langchain-openai": Agent(toolkit("langchain-openai", "/v1"), "anthropic", CHAT, _writes()),
    "ollama-python": Agent(toolkit("ollama-python", ""), "anthropic", "api/chat", _writes()),
    "cline": Agent(cline, "ollama", CHAT, {"run_commands": {"commands": [SHELL]}}),
    "continue": Agent(continue_cli, "anthropic", CHAT, _shell("Bash")),
    "kimi-code": Agent(kimi, "ollama", CHAT, _shell("Bash"), runs=1),
    "mini-swe-agent": Agent(
        mini,
        "anthropic",
        CHAT,
        _shell("bash"),
        ends=("bash", {"command": f"echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; echo {FINAL[-1]}"}),
    ),
    "openhands": Agent(
        openhands, "anthropic", CHAT, _shell("terminal", security_risk="LOW", summary="Writes it")
    ),
    "mistral-vibe": Agent(vibe, "anthropic", CHAT, _shell("bash")),
    "inspect-ai": Agent(inspect, "anthropic", RESPONSES, _writes()),
    "agno": Agent(toolkit("agno", "/v1"), "anthropic", CHAT, _writes()),
    "strands": Agent(toolkit("strands", "/v1"), "anthropic", CHAT, _writes()),
    "claude-agent-sdk": Agent(
        toolkit("claude-agent-sdk", ""), "openai", MESSAGES, _shell("Bash", description="Writes the marker")
    ),
    "langchain-anthropic": Agent(toolkit("langchain-anthropic", ""), "ollama", MESSAGES, _writes()),
}


@pytest.fixture
def place() -> Iterator[Place]:
    """Short paths, since a socket's has at most 107 bytes, and outside of the repository, whose
    files agents would read.
    """
    with tempfile.TemporaryDirectory(prefix="mp-", ignore_cleanup_errors=True) as folder:
        home, work = Path(folder, "home"), Path(folder, "work")
        home.mkdir()
        work.mkdir()
        yield Place(home, work)


def config_for(upstream: str, *, url: str) -> str:
    """A config with one provider of this dialect for every model name."""
    return f"""
[[providers]]
name = "up"
type = "{TYPES[upstream]}"
base_url = "{url}"
api_key = "sk-ours"
models = ["up-model"]

[aliases]
"*" = "up/up-model"
"""


@pytest.mark.parametrize("name", AGENTS)
async def test_an_agent_does_its_task_with_a_model_of_another_dialect(name: str, place: Place) -> None:
    agent = AGENTS[name]
    play = Play(agent.tools, agent.text, agent.ends)
    async with playing(agent.upstream, play) as upstream:
        config = config_for(agent.upstream, url=upstream.url)
        async with gateway(config, folder=place.home.parent) as gw:
            command, environ = agent.start(place)
            if agent.socket:
                environ = {**environ, agent.socket: gw.socket, "ANTHROPIC_BASE_URL": "http://localhost"}
            done = await run(
                command,
                socket=gw.socket,
                home=place.home,
                cwd=place.work,
                environ=environ,
                bridged=not agent.socket,
            )
            facts = describe(done, play, gw.records)
            assert done.status == 0, facts
            marker = place.work / MARKER
            assert marker.exists(), facts
            # Two parallel calls; aider writes the text into the file.
            assert marker.read_text() == "it ran\n" * (agent.runs if agent.tools else 1), facts
            assert FINAL[-1] in output_of(done), facts
            assert play.answers == 1, facts
            assert len(play.results) == (2 if agent.tools else 0), facts
            if agent.keeps_thoughts:
                assert play.thoughts == [(THOUGHT, SIGNATURE)], facts
            await gw.record()
            records = [record for record in gw.records if record.attempts]
            assert records, facts
            for record in records:
                assert (record.outcome, record.requested_model, record.model) == (
                    "ok",
                    agent.model,
                    "up-model",
                ), facts
                assert not record.passthrough, facts
            assert agent.path in {record.endpoint for record in records}, facts
        assert all(seen.headers.get("host") for seen in upstream.seen)
        assert not any("unused" in str(seen.headers) for seen in upstream.seen), (
            "the agent's own key was forwarded"
        )


def output_of(done: Done) -> str:
    """The agent's output; some print JSON with escaped letters."""
    try:
        return done.out + done.out.encode().decode("unicode_escape").encode("utf-16", "surrogatepass").decode(
            "utf-16"
        )
    except UnicodeError:
        return done.out


def describe(done: Done, play: Play, records: Any) -> str:
    return (
        f"status {done.status}\n--- out\n{done.out[-4000:]}\n--- errors\n{done.errors[-4000:]}\n"
        f"--- offered {play.offered}\n--- results {play.results}\n--- records "
        + "\n".join(str(record)[:1500] for record in records)
    )


async def test_beside_the_bridge_the_gateway_is_the_only_network(place: Place) -> None:
    program = (
        "import socket,urllib.request as u\n"
        "for far in ('1.1.1.1','169.254.169.254'):\n"
        "    try: socket.create_connection((far,80),2); print('REACHED')\n"
        "    except OSError as e: print(type(e).__name__)\n"
        "try: socket.getaddrinfo('example.org',80); print('RESOLVED')\n"
        "except OSError: print('unknown')\n"
        "print(sorted(l.split(':')[0].strip() for l in open('/proc/net/dev') if ':' in l))\n"
        f"print(u.urlopen('{BASE}/v1/models').status)\n"
    )
    async with playing("openai", Play({})) as upstream:
        config = (
            f'[[providers]]\nname = "up"\ntype = "together"\nbase_url = "{upstream.url}"\nmodels = ["m"]\n'
        )
        async with gateway(config, folder=place.home.parent) as gw:
            done = await run(
                [python("toolkits"), "-c", program],
                socket=gw.socket,
                home=place.home,
                cwd=place.work,
                environ={},
            )
    assert done.out.split("\n")[:-1] == ["OSError", "OSError", "unknown", "['lo']", "200"], done
