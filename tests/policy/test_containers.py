"""Rules for objects, lists, unions and tagged objects."""

from __future__ import annotations

from typing import Any

import pytest

from modelplex.policy.containers import (
    MAX_CACHED_TYPE_LENGTH,
    MAX_CACHED_TYPES,
    ListRule,
    ObjectRule,
    UnionRule,
    VariantRule,
    WhenEmpty,
)
from modelplex.policy.leaves import FLAG, NUMBER, TEXT, EnumRule
from modelplex.policy.path import dotted
from modelplex.policy.value_rules import RefuseRule, StripRule
from modelplex.policy.walk import PolicyRefusal, PolicyWalk, ValueRule
from tests.policy.judging import facts

STRIP = StripRule("labels")
REFUSE = RefuseRule("stored-file")


def edits(rule: ValueRule, value: Any, *allowed: str) -> list[tuple[str, str]]:
    """Path and rule of each edit."""
    walk = PolicyWalk(facts(*allowed))
    rule(walk, value, (None, "v"))
    return [(dotted(edit.path), edit.rule) for edit in walk.edits]


def refusal(rule: ValueRule, value: Any) -> tuple[str, str]:
    with pytest.raises(PolicyRefusal) as refused:
        rule(PolicyWalk(facts()), value, (None, "v"))
    return dotted(refused.value.path), refused.value.rule


def test_members_of_an_object_have_rules_by_name() -> None:
    rule = ObjectRule({"a": TEXT, "b": STRIP, "c": EnumRule("x y")})
    assert edits(rule, {"a": "t", "c": "x"}) == []
    assert edits(rule, {"a": None, "b": 1, "c": "z", "d": 2}) == [
        ("v.b", "labels"),
        ("v.c", "unknown-value"),
        ("v.d", "unknown-field"),
    ]
    assert refusal(rule, {"a": 1}) == ("v.a", "unknown-form")
    assert edits(ObjectRule({}, default=TEXT), {"any": "text"}) == []


@pytest.mark.parametrize("value", [[], "text", 1, True])
@pytest.mark.parametrize("rule", [ObjectRule({}), VariantRule({})])
def test_what_is_no_object_is_refused(rule: ValueRule, value: Any) -> None:
    assert refusal(rule, value) == ("v", "unknown-form")


def test_null_stands_for_no_object_and_no_list() -> None:
    assert edits(ObjectRule({}), None) == edits(ListRule(TEXT), None) == []


def test_an_object_that_lost_all_its_members_can_be_dropped() -> None:
    rule = ObjectRule({"a": STRIP, "b": STRIP}, when_empty="drop")
    assert edits(rule, {"a": 1, "b": 2})[-1] == ("v", "")
    assert edits(rule, {}) == []
    assert edits(ObjectRule({"a": STRIP, "b": TEXT}, when_empty="drop"), {"a": 1, "b": "t"}) == [
        ("v.a", "labels")
    ]


@pytest.mark.parametrize(
    ("when_empty", "removed"), [("keep", []), ("drop", [("o.l", "")]), ("parent", [("o", "")])]
)
def test_what_becomes_of_a_list_without_entries(
    when_empty: WhenEmpty, removed: list[tuple[str, str]]
) -> None:
    walk = PolicyWalk(facts())
    ListRule(STRIP, when_empty=when_empty)(walk, [1, 2], ((None, "o"), "l"))
    assert [(dotted(edit.path), edit.rule) for edit in walk.edits[2:]] == removed


def test_a_list_has_one_rule_for_its_entries() -> None:
    assert edits(ListRule(EnumRule("a"), when_empty="drop"), ["a", "b", "a"]) == [("v[1]", "unknown-value")]
    assert edits(ListRule(STRIP, when_empty="drop"), []) == []
    assert refusal(ListRule(TEXT), {"a": 1}) == ("v", "unknown-form")
    assert refusal(ListRule(NUMBER), [1, "x"]) == ("v[1]", "unknown-form")


def test_a_union_chooses_its_rule_by_the_json_type() -> None:
    rule = UnionRule(
        text=EnumRule("a"), items=ListRule(STRIP), members=ObjectRule({"a": FLAG}), plain=(bool,)
    )
    assert edits(rule, "b") == [("v", "unknown-value")]
    assert edits(rule, [1]) == [("v[0]", "labels")]
    assert edits(rule, {"b": 1}) == [("v.b", "unknown-field")]
    assert bool in rule.allowed_types
    values: list[Any] = ["text", [], {}, 1.5]
    for value in values:
        assert refusal(UnionRule(), value) == ("v", "unknown-form")


def test_a_variant_is_chosen_by_its_discriminator() -> None:
    rule = VariantRule({"a": STRIP}, patterns=[("x_[0-9]+", TEXT)], absent=FLAG, default=REFUSE)
    assert rule.rule_for("a") is STRIP
    assert rule.rule_for("x_12") is TEXT
    assert rule.rule_for("x_") is REFUSE
    assert rule.rule_for("x_1 ") is REFUSE
    assert rule.rule_for(None) is FLAG
    assert refusal(rule, {"type": 1}) == ("v", "unknown-form")
    assert refusal(VariantRule({}, discriminator="kind"), {"kind": "q"}) == ("v", "unknown-part")


def test_the_matches_that_a_variant_remembers_are_bounded() -> None:
    rule = VariantRule({}, patterns=[("x.*", TEXT)], default=REFUSE)
    for number in range(MAX_CACHED_TYPES + 10):
        assert rule.rule_for(f"x{number}") is TEXT
        assert rule.rule_for(f"x{number}") is TEXT
    assert len(rule._recent) == MAX_CACHED_TYPES  # pyright: ignore[reportPrivateUsage]
    fresh = VariantRule({}, default=REFUSE)
    assert fresh.rule_for("y" * (MAX_CACHED_TYPE_LENGTH + 1)) is REFUSE
    assert fresh._recent == {}  # pyright: ignore[reportPrivateUsage]


def test_the_children_of_a_rule_are_all_rules_that_it_applies() -> None:
    union = UnionRule(text=TEXT, items=ListRule(FLAG), members=STRIP)
    rule = VariantRule({"a": union}, patterns=[("x", NUMBER)], absent=FLAG, default=REFUSE)
    assert [step for step, _ in rule.children()] == ["{a}", "{x}", "{}", "{*}"]
    assert [each for _, each in union.children()] == [union.text, union.items, union.members]
    assert list(ObjectRule({"a": TEXT}, default=FLAG).children()) == [(".a", TEXT), (".*", FLAG)]
    assert list(ListRule(TEXT).children()) == [("[]", TEXT)]
