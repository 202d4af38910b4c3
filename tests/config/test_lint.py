"""What `modelplex check` finds in a config that can be loaded: each kind of finding, with its line
and key; and that a good config has none.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from modelplex import cli
from modelplex.config import ConfigError, lint, load
from modelplex.config.lint import ConfigFinding

KEY = "sk-proj-a1b2c3d4e5f6g7h8"
ENVIRON = {"PATH": os.environ.get("PATH", os.defpath), "GOOD_KEY": KEY}
OPENAI = '[[providers]]\ntype = "openai"\napi_key = "${GOOD_KEY}"\nmodels = ["gpt-4o"]\n'
DEMO = '[[providers]]\ntype = "demo"\n'


class Told(NamedTuple):
    """What a test says of a finding."""

    severity: str
    code: str
    line: int | None
    key: str


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def findings(text: str, *, environ: Mapping[str, str] = ENVIRON, mode: int = 0o600) -> list[ConfigFinding]:
    path = Path("config.toml")
    path.write_text(text)
    path.chmod(mode)
    return lint.lint(load(str(path), environ=environ), environ=environ)


def told(text: str, *, mode: int = 0o600) -> list[Told]:
    found = findings(text, mode=mode)
    assert all(each.file == "config.toml" and each.message for each in found)
    return [Told(each.severity, each.code, each.line, each.key) for each in found]


def test_bounds_that_have_nothing_in_common_are_told(here: Path) -> None:
    bound = '{{ rule = "web-search", domains = ["{}"] }}'.format
    text = (
        DEMO
        + f"[policy.allow]\nsocket = [{bound('example.com')}]\n"
        + f'[[agents]]\nname = "a"\nsocket = "./a.socket"\nallow = [{bound("example.org")}]\n'
        + f'[[agents]]\nname = "b"\nsocket = "./b.socket"\nallow = [{bound("docs.example.com")}]\n'
    )
    assert told(text) == [Told("warning", "bounds-apart", 8, "agents[0].allow")]
    assert told(text.replace("example.org", "a.example.com")) == []


def test_bounds_that_hold_for_nobody_are_told(here: Path) -> None:
    bound = '[{ rule = "web-search", max_uses = 1 }]'
    agent = '[[agents]]\nname = "a"\nsocket = "./a.socket"\n'
    assert told(f"[policy.allow]\nhttp = {bound}\n{DEMO}") == [
        Told("error", "bounds-unused", 2, "policy.allow.http")
    ]
    assert told(f'[policy]\nhttp = "sealed"\n[policy.allow]\nhttp = {bound}\n{DEMO}') == []
    assert told(f'{DEMO}{agent}policy = "open"\nallow = {bound}\n') == [
        Told("error", "bounds-unused", 7, "agents[0].allow")
    ]
    assert told(f"{DEMO}{agent}allow = {bound}\n") == []
    assert told(f'[policy]\nsocket = "open"\n{DEMO}allow = {bound}\n') == [
        Told("error", "bounds-unused", 5, "providers[0].allow")
    ]
    sealed = f'[policy]\nsocket = "open"\n{DEMO}allow = {bound}\n{agent}policy = "sealed"\n'
    assert told(sealed) == []


def test_a_good_config_has_no_findings(here: Path) -> None:
    text = (
        '[server]\nhttp = "127.0.0.1:0"\nsocket = "./m.socket"\n'
        + OPENAI
        + DEMO
        + '[aliases]\nfast = ["openai/gpt-4o", "demo"]\n"claude-*" = "gpt-4o"\n'
        + '[[agents]]\nname = "a"\nsocket = "./a.socket"\nmodels = ["fast", "gpt-*"]\n'
        + '[mcp]\nenabled = true\nservers = [ { name = "sh", command = "sh" } ]\n'
    )
    assert told(text) == []


@pytest.mark.parametrize(
    "written",
    [
        "$GOOD_KEY",
        "os.environ/GOOD_KEY",
        "os.environ['GOOD_KEY']",
        "process.env.GOOD_KEY",
        "env:GOOD_KEY",
        "{env:GOOD_KEY}",
        "%GOOD_KEY%",
        "{{ GOOD_KEY }}",
    ],
)
def test_a_variable_in_another_program_s_form_is_found_wherever_a_key_stands(written: str) -> None:
    other = written.replace("GOOD_KEY", "OTHER_KEY")
    text = f"""\
[server]
internal_token = "{written}"
[[providers]]
type = "openai"
api_key = ["${{GOOD_KEY}}", "{written}"]
models = ["m"]
headers = {{ x-team = "{written}" }}
[[agents]]
name = "a"
token = "{other}"
[mcp]
enabled = true
[[mcp.servers]]
name = "s"
command = "sh"
env = {{ TOKEN = "{written}" }}
"""
    assert told(text) == [
        Told("error", "literal-variable", 2, "server.internal_token"),
        Told("error", "literal-variable", 5, "providers[0].api_key[1]"),
        Told("error", "literal-variable", 7, "providers[0].headers.x-team"),
        Told("error", "literal-variable", 10, "agents[0].token"),
        Told("error", "literal-variable", 16, "mcp.servers[0].env.TOKEN"),
    ]
    assert {each.remedy for each in findings(text)} == {'write "${GOOD_KEY}"', 'write "${OTHER_KEY}"'}


@pytest.mark.parametrize("written", ["${GOOD_KEY}", "$$GOOD_KEY", "pa$sw0rd-with-dollars", "a$b"])
def test_what_is_filled_in_or_is_a_key_is_none(written: str) -> None:
    assert told(f'[[providers]]\ntype = "openai"\napi_key = "{written}"\n') == []


@pytest.mark.parametrize(
    "written",
    [
        "sk-...",
        "sk-xxxx",
        "your-key-here",
        "YOUR_API_KEY",
        "sk-your-openai-key",
        "<key>",
        "changeme",
        "sk-****",
    ],
)
def test_a_placeholder_is_no_key(written: str) -> None:
    assert told(f'[[providers]]\ntype = "openai"\napi_key = "{written}"\n') == [
        Told("error", "placeholder-key", 3, "providers[0].api_key")
    ]


@pytest.mark.parametrize(
    "text",
    [
        '[[providers]]\ntype = "vllm"\napi_key = "changeme"\n',
        '[[providers]]\ntype = "openai"\nbase_url = "http://127.0.0.1:4000/v1"\napi_key = "sk-1234"\n',
        f'[[providers]]\ntype = "openai"\napi_key = "{KEY}"\n',
    ],
)
def test_a_server_of_one_s_own_takes_any_word_and_a_key_is_a_key(text: str) -> None:
    assert told(text) == []


def test_a_token_that_anybody_guesses_is_none() -> None:
    assert told(DEMO + '[[agents]]\nname = "a"\ntoken = "your-token"\n') == [
        Told("error", "placeholder-key", 5, "agents[0].token")
    ]


def test_a_file_that_others_may_write_to_or_read_keys_in_is_told_of() -> None:
    literal = f'[[providers]]\ntype = "openai"\napi_key = "{KEY}"\n'
    readable = Told("warning", "readable-keys", 3, "providers[0].api_key")
    assert told(literal, mode=0o644) == [readable]
    assert told(literal, mode=0o666) == [Told("error", "writable-config", None, ""), readable]
    assert told(OPENAI, mode=0o644) == []


def test_no_finding_holds_a_key() -> None:
    text = f'[[providers]]\ntype = "openai"\napi_key = ["{KEY}", "your-key-0123"]\n[[agents]]\nname = "a"\ntoken = "my-token"\n'
    found = [str(each) for each in findings(text, mode=0o666)]
    assert len(found) == 4
    assert not any(word in each for each in found for word in (KEY, "0123", "my-token"))


@pytest.mark.parametrize(
    ("aliases", "expected", "words"),
    [
        ('a = "a"', [("alias-loop", 6, "aliases.a")], "a -> a"),
        (
            'a = ["b"]\nb = "a"',
            [("alias-loop", 6, "aliases.a[0]"), ("alias-loop", 7, "aliases.b")],
            "a -> b -> a",
        ),
        ('a = "b"\nb = "gpt-4o"', [("alias-of-alias", 6, "aliases.a")], '"gpt-4o"'),
        ('a = ["gpt-4o", "gpt-5"]', [("unknown-target", 6, "aliases.a[1]")], 'did you mean "gpt-4o"'),
        ('a = "opnai/gpt-4o"', [("unknown-target", 6, "aliases.a")], 'did you mean "openai/gpt-4o"'),
        ('a = "openai/gpt-9"', [("unknown-target", 6, "aliases.a")], "add the model"),
    ],
)
def test_an_alias_that_leads_nowhere_is_told_of(
    aliases: str, expected: list[tuple[str, int, str]], words: str
) -> None:
    text = OPENAI + "[aliases]\n" + aliases
    assert told(text) == [Told("error", *each) for each in expected]
    assert words in str(findings(text)[0])


def test_a_target_that_a_provider_may_list_is_not_judged() -> None:
    lists = '[[providers]]\ntype = "openrouter"\napi_key = "${GOOD_KEY}"\n'
    assert told(lists + '[aliases]\na = "meta/llama"\nb = "openrouter/x"\nc = "plain"\n') == []
    assert [each.code for each in told(lists + '[aliases]\na = "openroutr/x"\n')] == ["unknown-target"]


def test_models_of_an_agent_that_nobody_serves_are_told_of() -> None:
    text = (
        OPENAI + DEMO + '[[agents]]\nname = "a"\ntoken = "a-long-token-1"\nmodels = ["gpt-*", "claude-*"]\n'
    )
    assert told(text) == [Told("warning", "unknown-model", 10, "agents[0].models[1]")]
    assert told(text.replace('"gpt-*", ', "")) == [Told("error", "unknown-model", 10, "agents[0].models[0]")]
    for known in ('"openai/*"', '"demo"', '"*"'):
        assert told(text.replace('"claude-*"', known)) == []
    assert told(text.replace('models = ["gpt-4o"]\n', "")) == []


def test_a_budget_in_dollars_that_counts_nothing_is_told_of() -> None:
    own = '[[providers]]\nname = "vllm"\ntype = "openai"\nbase_url = "http://gpu:8000/v1"\nmodels = ["llama", "qwen"]\n'
    agent = '[[agents]]\nname = "a"\ntoken = "a-long-token-1"\nbudget = { usd = 5 }\n'
    (one,) = findings(OPENAI + own + agent)
    assert (one.code, one.severity, one.key) == ("unpriced-budget", "warning", "agents[0].budget")
    assert "vllm/llama, vllm/qwen: the budget counts no dollars" in one.message
    (one,) = findings(OPENAI + own + agent + 'on_unpriced = "refuse"\n')
    assert "refused" in one.message
    price = '[[prices]]\nmodel = "*"\nprovider = "vllm"\ninput = 0\noutput = 0\n'
    assert told(OPENAI + own + agent + price) == []
    assert told(OPENAI + own + agent.replace("usd", "tokens")) == []
    assert told(OPENAI + own + agent + 'models = ["openai/*"]\n') == []


@pytest.mark.parametrize("address", ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:80", "gateway.example:80"])
def test_a_listener_for_the_whole_network_is_told_of(address: str) -> None:
    assert told(f'[server]\nhttp = ["127.0.0.1:1", "{address}"]\n{DEMO}') == [
        Told("warning", "open-listener", 2, "server.http[1]")
    ]


def test_a_listener_for_this_machine_is_none() -> None:
    assert told(f'[server]\nhttp = [":8080", "127.0.0.2:1", "[::1]:2", "localhost:3"]\n{DEMO}') == []


def test_sockets_that_cannot_be_made_are_told_of(here: Path) -> None:
    (here / "file").touch()
    (here / "link").symlink_to(here)
    long = "x" * 108
    text = (
        f'[server]\nsocket = ["none/m.socket", "file", "./m.socket", "{long}"]\n{DEMO}'
        '[[agents]]\nname = "a"\nsocket = "link/m.socket"\n[mcp]\nenabled = true\nstdio_socket = "none/lines"\n'
    )
    assert told(text) == [
        Told("error", "missing-folder", 2, "server.socket[0]"),
        Told("error", "not-a-socket", 2, "server.socket[1]"),
        Told("error", "long-socket-path", 2, "server.socket[3]"),
        Told("error", "duplicate-socket", 7, "agents[0].socket"),
        Told("error", "missing-folder", 10, "mcp.stdio_socket"),
    ]


def test_files_in_folders_that_are_not_there_are_told_of() -> None:
    text = f'[server]\nkeep_responses = "none/answers"\n{DEMO}[log]\nfile = "none/log"\n'
    assert told(text) == [
        Told("error", "missing-folder", 2, "server.keep_responses"),
        Told("error", "missing-folder", 6, "log.file"),
    ]
    assert told(f'[server]\nkeep_responses = "memory"\n{DEMO}') == []


def test_tool_servers_that_never_start_are_told_of() -> None:
    servers = '[[mcp.servers]]\nname = "a"\ncommand = "no-such-program"\n[[mcp.servers]]\nname = "b"\ncommand = "sh"\ncwd = "none"\n'
    assert told(f"{DEMO}[mcp]\nenabled = true\n{servers}") == [
        Told("warning", "missing-command", 7, "mcp.servers[0].command"),
        Told("warning", "missing-folder", 11, "mcp.servers[1].cwd"),
    ]
    assert Told("warning", "tools-off", 3, "mcp.servers[0]") in told(DEMO + servers)


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("claude", '"anthropic"'),
        ("google", '"gemini"'),
        ("Google", '"gemini"'),
        ("grok", '"xai"'),
        ("litellm", '"openai"'),
        ("bedrock", "bedrock-runtime"),
        ("vertex", "Vertex AI is not"),
        ("opnai", '"openai"'),
    ],
)
def test_a_type_by_another_name_is_understood(kind: str, hint: str) -> None:
    for text in (f'[[providers]]\ntype = "{kind}"\n', f'[[providers]]\nname = "{kind}"\n'):
        if kind == "opnai" and "name" in text:
            continue
        with pytest.raises(ConfigError) as caught:
            findings(text)
        assert hint in caught.value.sentence


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = cli.main(["check", *words])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_check_tells_findings_on_stderr_and_fails_for_errors(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    config = here / "config.toml"
    config.write_text(f'[server]\nhttp = "0.0.0.0:80"\n{DEMO}')
    config.chmod(0o600)
    status, out, err = run(capsys)
    assert (status, err.count("\n")) == (0, 1)
    assert err.startswith("modelplex: config.toml:2: warning: server.http: whoever reaches 0.0.0.0:80 ")
    assert err.endswith("[open-listener]\n")
    assert out.startswith("config: config.toml\nlistens on:\n  http://0.0.0.0:80\n")
    assert run(capsys, "--strict")[0] == 1
    config.write_text(f'{DEMO}[aliases]\na = "a"\n')
    assert run(capsys)[0] == 1


MEMBERS = {"severity", "code", "file", "line", "key", "message", "remedy"}


def test_check_prints_json_for_programs(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    config = here / "config.toml"
    config.write_text(f'{DEMO}[aliases]\na = "b"\n')
    config.chmod(0o600)
    status, out, err = run(capsys, "--json", "--socket", "none/m.socket")
    document = json.loads(out)
    assert (status, err, document["ok"], document["config"]) == (1, "", False, "config.toml")
    assert all(set(each) == MEMBERS for each in document["findings"])
    assert [(each["code"], each["file"], each["line"], each["key"]) for each in document["findings"]] == [
        ("missing-folder", None, None, "--socket"),
        ("unknown-target", "config.toml", 4, "aliases.a"),
    ]
    config.write_text('[server]\nlog_levl = "info"\n[log]\nkeep = "5"\n')
    status, out, err = run(capsys, "--json")
    document = json.loads(out)
    assert (status, err, document["ok"]) == (2, "", False)
    assert [(each["code"], each["line"], each["key"]) for each in document["findings"]] == [
        ("invalid-config", 2, "server.log_levl"),
        ("invalid-config", 4, "log.keep"),
    ]
    config.write_text(DEMO)
    status, out, err = run(capsys, "--json")
    assert (status, json.loads(out), err) == (0, {"config": "config.toml", "ok": True, "findings": []}, "")


def test_every_code_is_documented_and_none_is_made_up() -> None:
    source = Path(lint.__file__).read_text()
    codes = {*re.findall(r'"((?:[a-z]+-)+[a-z]+)",', source), *re.findall(r'code="([a-z-]+)"', source)}
    page = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "cli.md").read_text()
    section = page.partition("### Findings")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)) == codes
