"""Verdicts on whole bodies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from modelplex.dialects import registry
from modelplex.policy import judge as sealed
from modelplex.policy.containers import ObjectRule
from modelplex.policy.judge import PolicyTable
from modelplex.policy.leaves import TEXT
from modelplex.policy.value_rules import OverwriteRule, RefuseRule, StripRule
from modelplex.policy.verdict import ALLOW, Amend, Refuse, Verdict
from modelplex.policy.walk import Json, PolicyWalk
from tests.dialects.sides import all_dialects
from tests.policy.judging import FACTS, TABLES, judge, judge_body


def test_every_form_that_is_spoken_has_a_table_and_there_is_no_other() -> None:
    assert set(TABLES) == set(registry.FORMS)
    assert [name for name, dialect in all_dialects().items() if dialect.form.name != name] == []


def test_a_dialect_without_a_table_is_judged_by_none() -> None:
    with pytest.raises(KeyError):
        judge(b"{}", dialect="esperanto", facts=FACTS)


def test_a_refusal_never_holds_the_value() -> None:
    verdict = judge_body({"model": "m", "previous_response_id": "resp_canary"}, "openai_responses")
    assert isinstance(verdict, Refuse)
    assert "canary" not in verdict.message
    assert verdict.message == (
        "Refused by policy: previous_response_id reads or continues state stored at the provider (rule stored-state). "
        "Send the whole history instead; the gateway's operator can allow it in [policy.allow]."
    )


def _check(walk: PolicyWalk, top: Mapping[str, Any]) -> None:
    if "late" in top:
        walk.refuse((None, "late"), "store")


TABLE = PolicyTable(
    ObjectRule({"a": TEXT, "late": TEXT, "s": StripRule("labels"), "o": OverwriteRule("store", False), "r": RefuseRule("stored-file")}),
    final_checks=(_check,),
)  # fmt: skip


def verdict_of(body: Json) -> Verdict:
    return sealed.judge(json.dumps(body).encode(), table=TABLE, facts=FACTS)


def test_a_body_without_a_fault_is_allowed() -> None:
    assert verdict_of({"a": "text"}) is ALLOW


def test_every_reported_edit_is_in_the_verdict() -> None:
    verdict = verdict_of({"a": "text", "s": 1, "o": True, "x": 2})
    assert isinstance(verdict, Amend)
    assert json.loads(verdict.body) == {"a": "text", "o": False}
    assert [(each.pointer, each.rule) for each in verdict.stripped] == [
        ("/s", "labels"),
        ("/o", "store"),
        ("/x", "unknown-field"),
    ]


def test_the_first_refusal_ends_the_walk_and_final_checks_come_last() -> None:
    first = verdict_of({"s": 1, "r": "file-1", "late": "x"})
    assert isinstance(first, Refuse)
    assert (first.rule, first.path) == ("stored-file", "r")
    last = verdict_of({"late": "x"})
    assert isinstance(last, Refuse)
    assert (last.rule, last.path) == ("store", "late")


def test_what_is_no_json_is_refused_without_a_path() -> None:
    verdict = sealed.judge(b"{", table=TABLE, facts=FACTS)
    assert isinstance(verdict, Refuse)
    assert (verdict.rule, verdict.path) == ("malformed", "")
    assert verdict.message.startswith("Refused by policy: the body is not valid JSON")
