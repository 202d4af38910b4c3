"""The arguments of the commands that read no config."""

from __future__ import annotations

import pytest

from modelplex.command_options import GROUPS, build_parser, parse
from modelplex.commands import setup_options
from modelplex.commands.parser_rows import rows_of


def test_every_command_is_in_one_group_of_the_help() -> None:
    words = [word for _, group in GROUPS for word in group]
    assert sorted(words) == sorted(each.word for each in rows_of(build_parser()).commands)
    text = build_parser().format_help()
    assert "\ncommands for the record:\n  runs        list the recorded runs, the newest first\n" in text


def test_names_are_the_commands_that_are_added() -> None:
    plain = {each.word for each in rows_of(build_parser()).commands}
    assert plain >= setup_options.NAMES
    assert parse(["completion", "fish"]).shell == "fish"
    assert parse(["client", "install", "--python", "p"]).python == "p"


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["completion", "tcsh"])
    assert "invalid choice: 'tcsh'" in capsys.readouterr().err
