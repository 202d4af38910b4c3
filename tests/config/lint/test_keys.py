"""Unexpanded variables, placeholders, and keys that others may read."""

from __future__ import annotations

import pytest

from tests.config.lint.findings import DEMO, KEY, OPENAI, Found, findings, found


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
def test_a_variable_of_another_form_is_found_in_every_secret(written: str) -> None:
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
    assert found(text) == [
        Found("error", "literal-variable", 2, "server.internal_token"),
        Found("error", "literal-variable", 5, "providers[0].api_key[1]"),
        Found("error", "literal-variable", 7, "providers[0].headers.x-team"),
        Found("error", "literal-variable", 10, "agents[0].token"),
        Found("error", "literal-variable", 16, "mcp.servers[0].env.TOKEN"),
    ]
    assert {each.remedy for each in findings(text)} == {'write "${GOOD_KEY}"', 'write "${OTHER_KEY}"'}


@pytest.mark.parametrize("written", ["${GOOD_KEY}", "$$GOOD_KEY", "pa$sw0rd-with-dollars", "a$b"])
def test_an_expanded_variable_or_a_key_is_no_finding(written: str) -> None:
    assert found(f'[[providers]]\ntype = "openai"\napi_key = "{written}"\n') == []


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
def test_a_placeholder_is_found(written: str) -> None:
    assert found(f'[[providers]]\ntype = "openai"\napi_key = "{written}"\n') == [
        Found("error", "placeholder-key", 3, "providers[0].api_key")
    ]


@pytest.mark.parametrize(
    "text",
    [
        '[[providers]]\ntype = "vllm"\napi_key = "changeme"\n',
        '[[providers]]\ntype = "openai"\nbase_url = "http://127.0.0.1:4000/v1"\napi_key = "sk-1234"\n',
        f'[[providers]]\ntype = "openai"\napi_key = "{KEY}"\n',
    ],
)
def test_a_server_of_the_users_own_accepts_any_key(text: str) -> None:
    assert found(text) == []


def test_a_placeholder_as_token_is_found() -> None:
    assert found(DEMO + '[[agents]]\nname = "a"\ntoken = "your-token"\n') == [
        Found("error", "placeholder-key", 5, "agents[0].token")
    ]


def test_a_file_that_others_may_write_or_read_is_found() -> None:
    literal = f'[[providers]]\ntype = "openai"\napi_key = "{KEY}"\n'
    readable = Found("warning", "readable-keys", 3, "providers[0].api_key")
    assert found(literal, mode=0o644) == [readable]
    assert found(literal, mode=0o666) == [Found("error", "writable-config", None, ""), readable]
    assert found(OPENAI, mode=0o644) == []


@pytest.mark.parametrize("key", ["file:/run/secrets/openai", "command:op read op://team/key"])
def test_the_place_of_a_key_may_be_read_by_everybody(key: str) -> None:
    assert found(f'[[providers]]\ntype = "openai"\napi_key = "{key}"\n', mode=0o644) == []


def test_no_finding_contains_a_key() -> None:
    text = f'[[providers]]\ntype = "openai"\napi_key = ["{KEY}", "your-key-0123"]\n[[agents]]\nname = "a"\ntoken = "my-token"\n'
    reports = [str(each) for each in findings(text, mode=0o666)]
    assert len(reports) == 4
    assert not any(word in each for each in reports for word in (KEY, "0123", "my-token"))
