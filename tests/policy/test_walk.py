"""The state of a walk: edits, allowed rules and bounds."""

from __future__ import annotations

import pytest

from modelplex.core.caller import Bound
from modelplex.policy import leaves
from modelplex.policy.bounds import Limit
from modelplex.policy.path import Path
from modelplex.policy.verdict import Facts
from modelplex.policy.walk import (
    ANY_VALUE,
    MAX_EDITS,
    REMOVED,
    UNKNOWN_FORM,
    CustomRule,
    DeferredRule,
    PolicyRefusal,
    PolicyWalk,
    ValueRule,
)
from tests.policy.judging import (
    amended,
    assert_allowed,
    chat,
    facts,
    refused,
    responses,
)


def test_a_body_may_lose_so_many_parts_and_no_more() -> None:
    words = ["reasoning.encrypted_content"]
    body, stripped = amended(responses(include=words + ["x"] * MAX_EDITS), "openai_responses")
    assert body["include"] == words
    assert len(stripped) == MAX_EDITS
    more = responses(include=["x"] * (MAX_EDITS + 1))
    assert refused(more, "openai_responses") == ("unknown-value", f"include[{MAX_EDITS}]")
    assert_allowed(chat(logit_bias={str(n): 1 for n in range(leaves.MAX_KEYS)}), "openai_chat")
    many = {str(n): 1 for n in range(leaves.MAX_KEYS + 1)}
    assert refused(chat(logit_bias=many), "openai_chat") == ("unknown-form", "logit_bias")


def test_an_allowed_rule_refuses_nothing() -> None:
    walk = PolicyWalk(facts("store"))
    walk.refuse((None, "a"), "store")
    assert (walk.allows("store"), walk.allows("labels")) == (True, False)
    with pytest.raises(PolicyRefusal) as refusal:
        walk.refuse((None, "a"), "labels")
    assert (refusal.value.rule, refusal.value.path, refusal.value.fault) == ("labels", (None, "a"), "")


def test_edits_are_recorded_in_order() -> None:
    walk = PolicyWalk(facts())
    walk.strip((None, "a"), "labels")
    walk.overwrite((None, "b"), "store", False)
    walk.remove((None, "c"))
    assert [(edit.path, edit.rule, edit.value) for edit in walk.edits] == [
        ((None, "a"), "labels", REMOVED),
        ((None, "b"), "store", False),
        ((None, "c"), "", REMOVED),
    ]


def test_only_a_recent_removal_of_the_very_entry_counts() -> None:
    walk = PolicyWalk(facts())
    here: Path = (None, "a")
    walk.strip(here, "labels")
    assert walk.is_removed(here, 0)
    assert not walk.is_removed(here, 1)
    same: Path = (None, str(b"a", "ascii"))  # equal, but another object
    assert not walk.is_removed(same, 0)
    walk.overwrite(same, "store", False)
    assert not walk.is_removed(same, 1)


def test_the_number_of_edits_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelplex.policy.walk.MAX_EDITS", 1)
    walk = PolicyWalk(facts())
    walk.strip((None, "a"), "labels")
    with pytest.raises(PolicyRefusal) as refusal:
        walk.strip((None, "b"), "labels")
    assert refusal.value.fault == "too-many-here"


def test_a_rule_has_the_limit_of_its_bounds() -> None:
    bounds = frozenset({Bound("web-search", ("a.example",), 2)})
    walk = PolicyWalk(Facts(agent="a", secret=b"s", bounds=bounds))
    assert walk.limit("web-search") == Limit(("a.example",), 2)
    assert walk.limit("web-fetch") is None
    assert PolicyWalk(facts()).limit("web-search") is None


def test_a_value_rule_must_be_implemented() -> None:
    with pytest.raises(NotImplementedError):
        ValueRule()(PolicyWalk(facts()), 1, None)
    assert list(ValueRule().children()) == []


def test_custom_and_deferred_rules_call_others() -> None:
    calls: list[object] = []

    def note(walk: PolicyWalk, value: object, path: Path) -> None:
        del walk, path
        calls.append(value)

    rule = CustomRule(note, ANY_VALUE)
    deferred = DeferredRule(lambda: rule)
    deferred(PolicyWalk(facts()), 7, None)
    assert calls == [7]
    assert list(rule.children()) == [("note", ANY_VALUE)]
    assert list(deferred.children()) == [("", rule)]
    assert repr(rule) == "CustomRule(note)"


@pytest.mark.parametrize("rule", [UNKNOWN_FORM, ANY_VALUE])
def test_a_value_without_a_type_is_refused(rule: ValueRule) -> None:
    with pytest.raises(PolicyRefusal, match="unknown-form"):
        rule(PolicyWalk(facts()), object(), None)
    rule(PolicyWalk(facts("unknown-form")), object(), None)
