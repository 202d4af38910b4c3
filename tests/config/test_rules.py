"""Rules: the values that each accepts, and the fault of every other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
import pytest

from modelplex.config import Secret, rules
from modelplex.config.rules import MAX_SECONDS, Rule, rules_of
from modelplex.config.toml_node import FAULTY, TomlDocument, TomlNode


def node(value: object, *, key: str = "key", **environ: str) -> TomlNode:
    return TomlNode(value, (key,), TomlDocument("f", {}, environ, {}))


def rejected(rule: Callable[[TomlNode], object], value: object, *, key: str = "key") -> str:
    """The fault of a value."""
    at = node(value, key=key)
    assert rule(at) is FAULTY
    (fault,) = at.document.faults
    return str(fault)


def test_text_expands_variables_and_rejects_blank_strings_and_control_characters() -> None:
    rule = rules.text("a word")
    assert rule(node("a-${X}$$", X="b")) == "a-b$"
    assert rejected(rule, 7) == "f: key: expected a word, found 7"
    assert rejected(rule, " ") == "f: key: expected a word, found an empty string"
    assert rejected(rule, "a\x07") == "f: key: expected a word, found a control character in it"
    blank = node("${X}", X="")
    assert rule(blank) is FAULTY
    assert str(blank.document.faults[0]).endswith("found nothing in ${X}")


@pytest.mark.parametrize("written", ["${", "${}", "${a b}", "x${1}", "${X"])
def test_a_broken_reference_is_not_quoted(written: str) -> None:
    report = rejected(rules.text("a word"), written)
    assert report == "f: key: expected ${NAME} with a variable's name; write $$ for a $ itself"


def test_a_pattern_matches_the_whole_string() -> None:
    rule = rules.matching(r"[0-9]+", "digits")
    assert rule(node("12")) == "12"
    assert rejected(rule, "12x") == 'f: key: expected digits, found "12x"'
    assert rejected(rule, "٣") == 'f: key: expected digits, found "٣"'


def test_the_sentence_of_a_parser_becomes_the_hint() -> None:
    def parse(written: str) -> str:
        if written != "good":
            raise ValueError("Write good.")
        return "parsed"

    assert rules.parsed(parse, "a word")(node("good")) == "parsed"
    report = rejected(rules.parsed(parse, "a word"), "bad")
    assert report == 'f: key: expected a word, found "bad"; write good'
    assert '"bad"' not in rejected(rules.parsed(parse, "a word", is_secret=True), "bad")


def test_one_of_lists_its_words_or_suggests_one() -> None:
    assert rejected(rules.one_of(("on", "off")), "yes") == 'f: key: expected "on" or "off", found "yes"'
    assert rejected(rules.one_of(("error", "warning")), "warn").endswith('did you mean "warning"?')
    described = rules.one_of(("a", "b"), "a letter", hints={"alpha": "write a"})
    assert rejected(described, "Alpha").endswith('expected a letter, found "Alpha"; write a')
    assert rejected(described, "zzz").endswith('found "zzz"; known here: a, b')


def test_a_secret_is_visible_ascii_and_never_quoted() -> None:
    rule = rules.secret("a key")
    assert rule(node(" k\n")) == Secret("k")
    for value in ("k\x07", "kä", ["k"], ""):
        report = rejected(rule, value)
        assert report.startswith("f: key: expected a key, found ")
        assert "k\x07" not in report
        assert "kä" not in report
    assert rules.secret("a key", empty=True)(node("")) == Secret("")


def test_an_argument_may_be_anything_but_a_nul() -> None:
    rule = rules.secret_argument("an argument")
    assert rule(node("ä\n")) == Secret("ä\n")
    assert rule(node("")) == Secret("")
    assert rejected(rule, "a\0b").endswith("found a NUL byte in it")


@pytest.mark.parametrize("value", [0, 11, 1.0, "1", True])
def test_an_integer_is_within_its_bounds(value: object) -> None:
    rule = rules.integer("things", least=1, most=10)
    assert rule(node(10)) == 10
    assert rejected(rule, value).startswith("f: key: expected things, a whole number from 1 to 10, found ")


@pytest.mark.parametrize("value", [-1, True, "1", float("inf"), float("nan"), MAX_SECONDS * 2])
def test_seconds_are_finite_and_positive(value: object) -> None:
    for rule in (rules.seconds(), rules.seconds(zero=True)):
        assert rule(node(1)) == 1.0
        rejected(rule, value)
    assert rules.seconds(zero=True)(node(0)) == 0.0
    assert rejected(rules.seconds(), 0) == "f: key: expected seconds, a number above 0, found 0"
    assert rejected(rules.seconds(), 2e7).endswith("above 0 and at most 10000000, found 20000000.0")


def test_a_list_checks_each_element_its_length_and_duplicates() -> None:
    words = rules.text("a word")
    rule = rules.list_of(words, "words", least=1, single=str, unique=True)
    assert rule(node("a")) == ("a",)
    assert rule(node(["a", "b"])) == ("a", "b")
    assert rejected(rule, 3) == "f: key: expected words, found a number"
    assert rejected(rule, []) == "f: key: expected words, found an empty list"
    assert rejected(rule, ["a", "a"]) == "f: key: expected each of these once, found one of them twice"
    assert rejected(rule, ["a", 2]) == "f: key[1]: expected a word, found 2"
    assert rejected(rules.list_of(words, "words"), "a") == "f: key: expected words, found a string"


def test_a_mapping_checks_its_keys_and_values() -> None:
    rule = rules.mapping(rules.text("a word"), key=rules.alias_name)
    assert rule(node({"a": "b"})) == {"a": "b"}
    assert rejected(rule, {"a": 1}) == "f: key.a: expected a word, found 1"
    assert rejected(rule, "a") == "f: key: expected a table, found a string"


class Inner(msgspec.Struct):
    on: bool = False
    wait: float = 1.0
    kind: Literal["x", "y"] = "x"
    other: Literal["x", "y"] | None = None
    words: tuple[str, ...] = ()
    name: str = ""


def test_the_type_of_a_field_implies_its_rule() -> None:
    read = rules.table(Inner, rules_of(Inner, name=rules.matching("[a-z]+", "letters")))
    given = {"on": True, "wait": 2, "kind": "y", "other": "x", "words": ["${W}"], "name": "n"}
    assert read(node(given, W="w")) == Inner(True, 2.0, "y", "x", ("w",), "n")
    for key, report in (
        ("on", "true or false"),
        ("wait", "seconds, a number above 0"),
        ("kind", '"x" or "y"'),
        ("other", '"x" or "y"'),
        ("words", "a list of strings"),
        ("name", "letters"),
    ):
        at = node({key: []} if key != "words" else {key: 1})
        read(at)
        (fault,) = at.document.faults
        assert str(fault).startswith(f"f: key.{key}: expected {report}, found ")


def test_a_type_without_a_rule_is_an_error_of_the_code() -> None:
    class Wrong(msgspec.Struct):
        count: int

    with pytest.raises(TypeError, match="implies no rule"):
        rules_of(Wrong)
    assert set(rules_of(Wrong, count=rules.integer("x", least=0, most=1))) == {"count"}


def test_an_unknown_key_gets_a_hint() -> None:
    homes = {"level": "[log]"}

    def hint(key: str) -> str | None:
        at = TomlNode({key: 1}, (), TomlDocument("f", {}, {}, homes))
        rules.read_fields(at, {"timeout": rules.boolean})
        return at.document.faults[0].hint

    assert hint("level") == "it belongs in [log]"
    assert hint("levl") == 'did you mean "level", which belongs in [log]?'
    assert hint("timeuot") == 'did you mean "timeout"?'
    assert hint("zzz") == "known here: timeout"


def test_tables_have_unique_names() -> None:
    entry: Rule[Inner] = rules.table(Inner, rules_of(Inner, name=rules.text("a name")))
    rule = rules.tables(entry)
    assert rule(node([{"name": "a"}, {"name": "b"}, {}, {}])) == (
        Inner(name="a"),
        Inner(name="b"),
        Inner(),
        Inner(),
    )
    at = node([{"name": "a"}, {"name": "a"}])
    rule(at)
    assert [str(fault) for fault in at.document.faults] == [
        'f: key[1].name: expected a name of its own, found "a" again; the first is on line None'
    ]
    assert rejected(rule, {}).endswith("found a table; each begins with [[key]]")
    assert rejected(rule, 1).endswith("found a number; as in key = [ { ... } ]")


@pytest.mark.parametrize(
    ("key", "report"),
    [
        ("a b", 'expected the name of a header, found "a b"'),
        ("Host", 'expected a header that a config may set, found "Host", which'),
        ("X-Api-Key", "the key goes into api_key"),
    ],
)
def test_a_header_that_the_gateway_sets_is_reserved(key: str, report: str) -> None:
    rule = rules.header_name(reserved=frozenset({"host", "x-api-key"}))
    assert rule(node("", key="X-Team")) == "x-team"
    assert report in rejected(rule, "", key=key)


@pytest.mark.parametrize("key", ["", "a=b", "a\0"])
def test_a_variable_has_a_valid_name(key: str) -> None:
    assert rules.environment_name(node("", key="A_1")) == "A_1"
    assert "expected a variable's name" in rejected(rules.environment_name, "", key=key)


def test_an_alias_has_a_name() -> None:
    assert rules.alias_name(node("", key="a b")) == "a b"
    assert "expected a name that clients can request" in rejected(rules.alias_name, "", key=" ")
