"""A wrong command or option is answered with the one that was meant."""

from __future__ import annotations

import pytest

from modelplex.command_options import build_parser, parse
from modelplex.commands.parser_rows import rows_of
from modelplex.commands.unknown_words import SYNONYMS, explain


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--confg x", "`modelplex` has no option --confg; did you mean --config?"),
        ("--confg=x check", "`modelplex` has no option --confg; did you mean --config?"),
        ("serve", '`modelplex` has no command "serve"; `modelplex` without a command serves'),
        ("chekc", '`modelplex` has no command "chekc"; did you mean `modelplex check`?'),
        ("--config x chekc", '`modelplex` has no command "chekc"; did you mean `modelplex check`?'),
        ("logs", '`modelplex` has no command "logs"; did you mean `modelplex tail`?'),
        ("mcp lsit", '`modelplex mcp` has no command "lsit"; did you mean `modelplex mcp list`?'),
        (
            "mcp serve",
            '`modelplex mcp` has no command "serve"; its commands: list, call, lock, approve, login, logout, status, import',
        ),
        ("check --reech", "`modelplex check` has no option --reech; did you mean --reach?"),
        ("--reach", "`modelplex` has no option --reach; `modelplex check` has it"),
        ("run --qqqq 5 -- true", "`modelplex run` has no option --qqqq; `modelplex run --help` lists them"),
    ],
)
def test_what_was_meant_is_said(line: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(line.split())
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"modelplex: {sentence}\n"


@pytest.mark.parametrize(
    "line", ["check --reach", "run agent --confg", "run -- agent --confg", "mcp list -h"]
)
def test_a_line_without_unknown_words_is_not_explained(line: str) -> None:
    assert explain(rows_of(build_parser()), line.split()) is None


def test_another_fault_is_reported_with_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["check", "--config"])
    report = capsys.readouterr().err
    assert report.startswith("usage: modelplex check")
    assert report.endswith("argument --config: expected one argument\n")


def test_synonyms_are_no_commands_and_lead_to_commands() -> None:
    whole = rows_of(build_parser())
    assert [word for word in SYNONYMS if whole.command(word)] == []
    names = {each.name for each in whole.all()}
    for meant in set(SYNONYMS.values()) - {"", "--version"}:
        assert f"modelplex {meant}" in names
