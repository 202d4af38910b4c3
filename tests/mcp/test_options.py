"""Options of `modelplex mcp`."""

from __future__ import annotations

import argparse

import pytest

from modelplex.mcp import options


def parse(*arguments: str) -> argparse.Namespace:
    def shared() -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(add_help=False)
        parser.add_argument("--config")
        return parser

    parser = argparse.ArgumentParser(prog="modelplex")
    options.add(parser.add_subparsers(dest="command"), shared=shared)
    return parser.parse_args(["mcp", *arguments])


def test_each_command_has_its_arguments_and_the_shared_ones() -> None:
    assert vars(parse("list", "--json", "--config", "x")) == {
        "command": "mcp",
        "mcp": "list",
        "json": True,
        "config": "x",
    }
    call = parse("call", "git__log", '{"a": 1}')
    assert (call.mcp, call.tool, call.arguments, call.json) == ("call", "git__log", '{"a": 1}', False)
    assert parse("call", "git__log").arguments == "{}"
    assert parse("lock").mcp == "lock"
    approve = parse("approve", "a", "b*", "--all")
    assert (approve.tools, approve.all) == (["a", "b*"], True)


@pytest.mark.parametrize("arguments", [(), ("call",), ("lock", "x"), ("other",), ("list", "--js")])
def test_wrong_arguments_exit_with_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(*arguments)
    assert exit_.value.code == 2
    assert "usage: modelplex" in capsys.readouterr().err


def test_the_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--help")
    assert "modelplex mcp approve" in capsys.readouterr().out
