"""Shared options: each is applied by the command, before or after it, or refused."""

from __future__ import annotations

import argparse
from typing import Any, cast

import pytest

from modelplex import cli
from modelplex.command_options import OPTIONS, SERVE, build_parser, parse

VALUES: dict[str, list[str]] = {
    "--config": ["other.toml"],
    "--http": [":8080"],
    "--socket": ["./m.socket"],
    "--vsock": ["77"],
    "--admin-socket": ["./admin.socket"],
    "--no-reload": [],
    "--verbose": [],
}
COMMANDS: dict[str, list[str]] = {
    SERVE: [],
    "check": ["check"],
    "run": ["run", "--", "true"],
    "replay": ["replay", "run-1", "--", "true"],
    "bridge": ["bridge", "--", "true"],
    "mcp": ["mcp", "list"],
    "runs": ["runs"],
    "show": ["show", "run-1"],
    "usage": ["usage"],
    "tail": ["tail"],
    "stop": ["stop", "coder"],
    "page": ["page"],
    "export": ["export", "run-1"],
    "verify": ["verify", "run-1"],
    "certify": ["certify", "run-1"],
    "acts": ["acts"],
    "telemetry": ["telemetry", "--agent", "coder"],
    "completion": ["completion", "bash"],
    "man": ["man"],
    "init": ["init"],
    "import": ["import", "litellm", "config.yaml"],
    "client": ["client", "install"],
}


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        parse(words)
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_all_options_and_commands_are_listed_here() -> None:
    parser = build_parser()
    found = {string for action in parser._actions for string in action.option_strings}
    assert found == {*VALUES, "--help", "-h", "--version"}
    assert {option.flag for option in OPTIONS} == VALUES.keys()
    commands: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            commands += cast("dict[str, object]", action.choices)
    assert {SERVE, *commands} == COMMANDS.keys()
    assert all(option.commands <= COMMANDS.keys() for option in OPTIONS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda name: name or "serve")
@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.flag)
def test_an_option_before_a_command_is_applied_or_refused(
    option: Any, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [option.flag, *VALUES[option.flag], *COMMANDS[command]]
    if command not in option.commands:
        report = refusal(words, capsys)
        assert report.endswith(f"argument {option.flag}: `modelplex {command}` does not apply it")
        return
    first = parse(words)
    got = getattr(first, option.name)
    assert got not in (None, False, [])
    # After the command it means the same.
    verb, *rest = COMMANDS[command] or [""]
    after = [*([verb] if verb else []), option.flag, *VALUES[option.flag], *rest]
    assert vars(parse(after)) == vars(first)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda name: name or "serve")
def test_a_missing_option_is_none_or_false(command: str) -> None:
    parsed = parse(COMMANDS[command])
    assert {getattr(parsed, option.name) for option in OPTIONS} == {None, False}


@pytest.mark.parametrize(
    ("words", "http"),
    [
        (["--http", ":1", "check", "--http", ":2"], ["127.0.0.1:1", "127.0.0.1:2"]),
        (["--http", ":1", "--http", ":2", "check"], ["127.0.0.1:1", "127.0.0.1:2"]),
    ],
)
def test_repeated_options_add_up_before_and_after_the_command(words: list[str], http: list[str]) -> None:
    assert parse(words).http == http


@pytest.mark.parametrize(
    "words",
    [
        ["--config", "a", "--config", "b"],
        ["--config", "a", "check", "--config", "b"],
        ["--config", "a", "run", "--config", "b", "--", "true"],
        ["run", "--config", "a", "--config", "b", "--", "true"],
        ["mcp", "--config", "a", "list", "--config", "b"],
        ["--socket", "a", "bridge", "--socket", "b"],
        ["run", "--fs", "ro", "--fs", "private", "--", "true"],
        ["run", "--agent", "a", "--agent", "b", "--", "true"],
    ],
)
def test_a_second_value_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "given twice, as" in refusal(words, capsys)


def test_the_same_value_twice_is_accepted() -> None:
    assert parse(["--config", "a", "check", "--config", "a"]).config == "a"


def test_options_after_the_program_belong_to_the_program() -> None:
    parsed = parse(["run", "prog", "--config", "theirs", "--verbose"])
    assert (parsed.config, parsed.verbose) == (None, False)
    assert parsed.command_line == ["prog", "--config", "theirs", "--verbose"]


def test_a_bridge_needs_one_address_of_the_gateway(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["bridge"], ["bridge", "--socket", "a", "--connect", "vsock:2:1"]):
        assert cli.main(words) == 2
        assert "it needs either --socket PATH or --connect ADDRESS" in capsys.readouterr().err
