"""Aliases of tool names."""

import pytest

from modelplex.core.request import Change
from modelplex.dialects.core.tool_names import LONGEST, ToolAliases, alias, qualified

LONG = "x" * (LONGEST + 1)


@pytest.mark.parametrize("name", ["a", "get_weather-2", "x" * LONGEST])
def test_a_name_that_is_accepted_stays(name: str) -> None:
    assert alias(name) == name


@pytest.mark.parametrize("name", ["", "bad.name/with space", "ü", LONG, "a\ud800"])
def test_any_other_name_gets_an_alias_that_depends_on_it_alone(name: str) -> None:
    assert alias(name) == alias(name)
    assert alias(alias(name)) == alias(name)
    assert len(alias(name)) <= LONGEST


def test_two_names_with_one_beginning_have_two_aliases() -> None:
    assert alias(LONG + "a") != alias(LONG + "b")
    assert alias("a.b") != alias("a/b")


def test_a_change_is_reported_once_and_leads_back() -> None:
    changes: list[Change] = []
    names = ToolAliases(changes, native=False)
    sent = names.sent("a.b", path="tools[0].name")
    assert names.sent("a.b", path="tool_choice") == sent
    assert names.aliases == {sent: "a.b"}
    assert [(change.op, change.path) for change in changes] == [("rename", "tools[0].name")]


def test_a_client_of_the_same_dialect_keeps_its_names() -> None:
    changes: list[Change] = []
    assert ToolAliases(changes, native=True).sent("a.b", path="tools[0].name") == "a.b"
    assert changes == []


@pytest.mark.parametrize(("name", "sent"), [("1a", "_1a"), ("-a", "_-a"), ("_a", "_a"), ("a", "a")])
def test_a_name_begins_with_a_letter_where_it_must(name: str, sent: str) -> None:
    names = ToolAliases([], native=False, letter_first=True)
    assert names.sent(name, path="p") == sent
    assert len(names.sent("1" * LONGEST, path="p")) == LONGEST


def test_a_namespace_is_a_prefix() -> None:
    assert qualified("files", "read") == qualified("files__", "read") == "files__read"
