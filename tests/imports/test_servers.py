"""Tool servers of Claude, Cursor, VS Code and Codex."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelplex.imports.notes import ImportFault, Notes
from modelplex.imports.servers import convert, find_servers

GIT: dict[str, Any] = {"command": "git-mcp"}


def converted(servers: dict[str, Any]) -> tuple[list[dict[str, Any]], Notes]:
    notes = Notes(home="/home/me", folder="/work")
    return convert(servers, notes), notes


@pytest.mark.parametrize(
    "tree",
    [
        {"mcpServers": {"git": GIT}},
        {"servers": {"git": GIT}, "inputs": []},
        {"mcp": {"servers": {"git": GIT}}},
        {"mcp.servers": {"git": GIT}},
        {"projects": {"/a": {"mcpServers": {}}, "/b": {"mcpServers": {"git": GIT}}}},
    ],
)
def test_servers_are_found_where_each_program_keeps_them(tree: dict[str, Any]) -> None:
    assert find_servers(json.dumps(tree).encode(), file="f.json") == {"git": GIT}


def test_codex_has_toml() -> None:
    text = b'model = "gpt"\n[mcp_servers.git]\ncommand = "git-mcp"\n'
    assert find_servers(text, file="config.toml") == {"git": GIT}


def test_comments_and_last_commas_are_no_fault_and_stay_in_strings() -> None:
    text = '{ // one\n"mcpServers": {"git": {"command": "a//b,}", /* two */ "args": ["/*x*/",],},},}'
    found = find_servers(text.encode(), file="mcp.json")
    assert found == {"git": {"command": "a//b,}", "args": ["/*x*/"]}}


@pytest.mark.parametrize(
    ("text", "reason"), [("{}", "there is no tool server"), ("[]", "no object"), ("{", "f.json: ")]
)
def test_another_file_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ImportFault) as fault:
        find_servers(text.encode(), file="f.json")
    assert reason in fault.value.sentence


def test_a_command_is_carried_with_references_for_its_secrets() -> None:
    tables, notes = converted(
        {
            "GitHub Server!": {
                "type": "stdio",
                "command": "docker",
                "args": ["run", "--api-key", "hidden", "--token=hidden2", "-v", "${workspaceFolder}:/x"],
                "env": {"GITHUB_TOKEN": "hidden3", "DEBUG": "1"},
                "alwaysAllow": ["a"],
            }
        }
    )
    assert tables == [
        {
            "name": "github-server",
            "command": "docker",
            "args": [
                "run",
                "--api-key",
                "${GITHUB_SERVER_API_KEY}",
                "--token=${GITHUB_SERVER_TOKEN}",
                "-v",
                "/work:/x",
            ],
            "env": {"GITHUB_TOKEN": "${GITHUB_TOKEN}", "DEBUG": "1"},
        }
    ]
    assert "GitHub Server!: is named github-server here" in notes.lines
    assert "github-server.alwaysAllow: was not carried" in notes.lines
    assert notes.variables == ["GITHUB_SERVER_API_KEY", "GITHUB_SERVER_TOKEN", "GITHUB_TOKEN"]
    assert "hidden" not in " ".join(notes.lines)


def test_a_url_is_carried_with_references_for_its_secrets() -> None:
    tables, notes = converted(
        {
            "search": {
                "type": "http",
                "url": "https://h/mcp?apiKey=hidden&x=1",
                "headers": {"Authorization": "Bearer hidden", "X-V": "2", "Accept": "*/*"},
            }
        }
    )
    assert tables == [
        {
            "name": "search",
            "url": "https://h/mcp?apiKey=${SEARCH_APIKEY}&x=1",
            "headers": {"Authorization": "Bearer ${SEARCH_AUTHORIZATION}", "X-V": "2"},
        }
    ]
    assert "search.headers.Accept: was not carried: the gateway sets it" in notes.lines


def test_what_codex_says_in_its_own_words() -> None:
    tables, _ = converted(
        {
            "docs": {"command": "npx", "env_vars": ["A"], "tool_timeout_sec": 20, "disabled_tools": ["rm"]},
            "remote": {"url": "https://h", "bearer_token_env_var": "TOK", "env_http_headers": {"X-A": "B"}},
        }
    )
    assert tables[0]["env"] == {"A": "${A}"}
    assert (tables[0]["timeout"], tables[0]["tools"]) == (20.0, ["!rm"])
    assert tables[1]["headers"] == {"authorization": "Bearer ${TOK}", "X-A": "${B}"}


def test_what_cannot_be_carried_is_named() -> None:
    tables, notes = converted(
        {
            "off": {"command": "x", "disabled": True},
            "empty": {"type": "stdio"},
            "both": {"url": "https://h", "cwd": "/x"},
            "A_B": GIT,
            "a-b": GIT,
        }
    )
    assert [table["name"] for table in tables] == ["both", "a-b", "a-b-2"]
    assert "off: left out, since it is switched off" in notes.lines
    assert "empty: left out, since it has neither a command nor a url" in notes.lines
    assert "both.cwd: was not carried: it does not fit the rest" in notes.lines
