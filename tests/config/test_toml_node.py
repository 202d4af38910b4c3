"""A value with its position: its members, its faults, and how a fault shows it."""

import datetime as dt

import pytest

from modelplex.config.toml_node import (
    FAULTY,
    MAX_LISTED,
    MAX_QUOTED,
    TomlDocument,
    TomlNode,
    quote,
    suggestion,
    type_name,
)


def root(value: object) -> TomlNode:
    lines: dict[tuple[str | int, ...], int] = {("a",): 3, ("a", 1): 4}
    return TomlNode(value, (), TomlDocument("f.toml", lines, {}, {}))


def test_a_fault_has_the_line_of_the_nearest_key() -> None:
    node = root({"a": [1, {"b": 2}]})
    second = node.get("a").elements()[1]
    assert second.get("b").reject("three", found="2", hint="try again") is FAULTY
    node.get("z").reject("something")
    assert [str(fault) for fault in node.document.faults] == [
        "f.toml:4: a[1].b: expected three, found 2; try again",
        "f.toml: z: expected something",
    ]


def test_members_of_what_is_no_table_are_a_fault() -> None:
    node = root({"a": 1})
    members = node.get("a").members()
    assert members is FAULTY
    assert str(node.document.faults[0]) == "f.toml:3: a: expected a table, found a number"
    assert node.members() == {"a": node.get("a")}


def test_raw_members_and_elements_of_another_type_are_empty() -> None:
    node = root("text")
    assert (node.elements(), node.raw_table(), node.raw_string("a"), node.get("a").value) == (
        [],
        {},
        "",
        None,
    )
    assert root({"a": "x", "b": 1}).raw_string("a") == "x"
    assert root({"a": "x", "b": 1}).raw_string("b") == ""


@pytest.mark.parametrize(
    ("value", "quoted", "named"),
    [
        (True, "true", "true or false"),
        (1.5, "1.5", "a number"),
        ("", '""', "an empty string"),
        ("key", '"key"', "a string"),
        ("x" * (MAX_QUOTED + 1), f'"{"x" * MAX_QUOTED}..."', "a string"),
        ([1], "a list", "a list"),
        ({}, "a table", "a table"),
        (dt.date(2026, 1, 1), "a date or time", "a date or time"),
    ],
)
def test_a_value_is_quoted_or_named(value: object, quoted: str, named: str) -> None:
    assert (quote(value), type_name(value)) == (quoted, named)


def test_a_suggestion_is_a_near_word_or_a_short_list() -> None:
    assert suggestion("Modle", ["model", "name"]) == 'did you mean "model"?'
    assert suggestion("zzz", ["model", "name"]) == "known here: model, name"
    assert suggestion("zzz", []) is None
    assert suggestion("zzz", [f"word{n}" for n in range(MAX_LISTED + 1)]) is None
