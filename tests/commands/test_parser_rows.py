"""The parser of the command line as rows."""

from __future__ import annotations

from modelplex.command_options import build_parser
from modelplex.commands.parser_rows import ArgumentRow, rows_of


def test_every_command_and_option_is_a_row() -> None:
    whole = rows_of(build_parser())
    names = [each.name for each in whole.all()]
    assert names[0] == "modelplex"
    assert {"modelplex check", "modelplex mcp call", "modelplex client install"} <= set(names)
    check = whole.command("check")
    assert check is not None
    assert check.option("--reach") == ArgumentRow(
        ("--reach",), "", "request each provider's list of models, and show which ones answer"
    )
    assert check.summary == "Check the config and show what would be served"
    assert check.word == "check"
    run = whole.command("run")
    assert run is not None
    fs = run.option("--fs")
    assert fs is not None
    assert (fs.metavar, fs.values) == ("VIEW", ("private", "ro", "host"))
    assert [each.word for each in whole.commands if each.runs_a_program] == ["run", "replay", "bridge"]


def test_positional_arguments_have_no_flags() -> None:
    mcp = rows_of(build_parser()).command("mcp")
    call = mcp.command("call") if mcp is not None else None
    assert call is not None
    assert [(each.flags, each.metavar) for each in call.arguments] == [((), "TOOL"), ((), "JSON")]
    assert call.usage.startswith("modelplex mcp call [-h]")
