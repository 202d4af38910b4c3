"""Every rule is used and documented, and the message of a refusal says what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from modelplex.dialects.anthropic.betas import betas
from modelplex.policy import rules
from modelplex.policy.model_names import HIDDEN, MARKS, NAMES, TAGS
from modelplex.policy.rules import OPENABLE, RULES, refusal_message

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "reference" / "policy.md"
ROOM = ROOT / "src" / "modelplex" / "policy"
ROW = re.compile(r"^\| `([a-z-]+)` \| .+ \| (.+) \|$", re.MULTILINE)
ELSEWHERE = {"unread-form"}
"""Rules of what is no JSON body: whoever reads the body's type asks for them."""


@pytest.mark.docs
def test_the_manual_has_each_rule_with_its_sentence_and_no_other() -> None:
    assert dict(ROW.findall(PAGE.read_text())) == {name: rule.reason for name, rule in RULES.items()}


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_rule_has_a_name_to_type_and_a_sentence_to_read(name: str) -> None:
    rule = RULES[name]
    assert rule.name == name
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
    assert rule.reason.endswith(".")
    told = refusal_message(name, "input[2].content[0]")
    assert told.startswith(f"Refused by policy: input[2].content[0] {rule.problem} (rule {name}). ")
    assert told.endswith(".")
    assert ("[policy.allow]" in told) == (name in OPENABLE)
    assert refusal_message(name, "").startswith("Refused by policy: the body ")


@pytest.mark.parametrize("name", sorted(set(RULES) - ELSEWHERE))
def test_a_rule_is_asked_for_by_some_table(name: str) -> None:
    own = Path(rules.__file__).name
    dialects = ROOM.parent / "dialects"
    tables = (*dialects.glob("*/policy*.py"), *dialects.glob("*/fields.py"))
    pages = [page.read_text() for page in (*ROOM.glob("*.py"), *tables) if page.name != own]
    assert any(f'"{name}"' in page for page in pages)


def test_only_what_is_read_differently_by_different_readers_cannot_be_opened() -> None:
    assert set(RULES) - OPENABLE == {"duplicate-key", "malformed", "too-deep", "hidden-characters"}


def test_names_and_betas_speak_of_rules_that_there_are() -> None:
    named = {rule for _, rule in (*NAMES, *TAGS, *MARKS)} | {HIDDEN}
    assert named | {beta.rule for beta in betas().values()} <= {*RULES, ""}
