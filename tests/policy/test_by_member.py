"""A walk by member has the verdict of a walk over the whole body."""

from __future__ import annotations

import json
import random
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelplex.core.caller import Bound
from modelplex.policy import by_member
from modelplex.policy.containers import ListRule, ObjectRule, UnionRule, VariantRule
from modelplex.policy.judge import judge, judge_whole
from modelplex.policy.leaves import EnumRule, MapRule, PatternRule, PlainListRule, SchemaRule
from modelplex.policy.rules import OPENABLE
from modelplex.policy.verdict import Allow, Amend, Facts, Refuse
from modelplex.policy.walk import PolicyWalk, ValueRule
from tests.policy.judging import FACTS, TABLES, chat, facts, same

SAMPLES: tuple[Any, ...] = (
    "a text",
    "data:image/png;base64,iVBORw0KGgo=",
    "iVBORw0KGgo=",
    "https://evil.example/x",
    'a "quoted" \\ text\n\u00e9\U0001f600',
    "auto",
    "",
    "1",
    0,
    7,
    0.5,
    1e300,
    True,
    False,
    None,
    [],
    {},
    ["direct"],
    {"type": "local"},
    {"type": "object", "properties": {"a": {"$ref": "#/x"}}},
    {"a": [1, {"b": None}]},
    [["a"], 1],
)
DEEPEST = 9


class _Pairs(list[tuple[str, Any]]):
    """An object as its pairs: a name may stand twice."""


class Maker:
    """Makes values that a rule knows, and sometimes others, in one of JSON's spellings."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.daring = dice.choice([0.0, 0.0, 0.01, 0.1])
        """How often a value is none of the rule's."""
        self.spelling = dice.choice([0.0, 0.0, 0.02, 0.3])
        """How often JSON is not spelled as it is shortest."""

    def odd(self, chance: float) -> bool:
        return self.dice.random() < chance

    def value(self, rule: ValueRule, depth: int = 0) -> Any:
        if self.odd(self.daring) or depth > DEEPEST:
            return self.dice.choice(SAMPLES)
        if isinstance(rule, ObjectRule):
            return self.members(rule, depth)
        if isinstance(rule, ListRule):
            return [self.value(rule.entry, depth + 1) for _ in range(self.dice.randint(0, 3))]
        if isinstance(rule, UnionRule):
            return self.value(self.dice.choice([rule.text, rule.items, rule.members]), depth)
        if isinstance(rule, VariantRule):
            return self.variant(rule, depth)
        if isinstance(rule, EnumRule):
            return self.dice.choice(sorted(rule.allowed_words))
        if isinstance(rule, PatternRule):
            return self.dice.choice(["auto", "1m", "a/b", *sorted(rule.allowed_words)])
        if isinstance(rule, PlainListRule):
            return [self.dice.choice(["a", 1, 2.5]) for _ in range(self.dice.randint(0, 2))]
        if isinstance(rule, SchemaRule | MapRule):
            return self.dice.choice(SAMPLES)
        targets = [inner for _, inner in rule.children()]
        if targets and not self.odd(0.2):
            return self.value(self.dice.choice(targets), depth)
        fitting = [each for each in SAMPLES if type(each) in rule.allowed_types]
        return self.dice.choice(fitting or SAMPLES)

    def members(self, rule: ObjectRule, depth: int) -> _Pairs:
        wanted = {"role", "content", "type", "text", "messages", "input", "contents", "parts", "tools"}
        known = [*rule.fields]
        names = [name for name in known if name in wanted]
        names += self.dice.sample(known, min(len(known), self.dice.randint(0, 2)))
        self.dice.shuffle(names)
        names = [*dict.fromkeys(names)]
        if self.odd(self.daring):
            names.append(self.dice.choice(["surprise", "caf\u00e9", *names]))
        return _Pairs((name, self.value(rule.fields.get(name, rule.default), depth + 1)) for name in names)

    def variant(self, rule: VariantRule, depth: int) -> Any:
        kind = self.dice.choice([*rule.variants, None, "surprise", "web_search"])
        made = self.value(rule.rule_for(kind), depth)
        if not isinstance(made, _Pairs):
            made = _Pairs()
        pairs = [(name, value) for name, value in made if name != rule.discriminator]
        if kind is not None:
            pairs.insert(self.dice.randint(0, len(pairs)), (rule.discriminator, kind))
        return _Pairs(pairs)

    def text(self, value: Any) -> str:
        """The JSON of a value."""
        space = self.dice.choice([" ", "\n\t"]) if self.odd(self.spelling) else ""
        if isinstance(value, dict):
            value = _Pairs(cast("dict[str, Any]", value).items())
        if isinstance(value, _Pairs):
            members = [f"{self.text(name)}{space}:{self.text(inner)}" for name, inner in value]
            if members and self.odd(self.spelling):
                members.append(self.dice.choice(members))
            return "{" + f",{space}".join(members) + "}"
        if isinstance(value, list):
            return f"[{space}{','.join(map(self.text, cast('list[object]', value)))}]"
        if isinstance(value, str):
            return "".join(('"', *map(self.letter, value), '"'))
        if type(value) in {int, float} and self.odd(self.spelling):
            return self.dice.choice(["1e5", "1E400", "-0", "1.0", "100e-2", "12345678901234567890123"])
        return json.dumps(value)

    def letter(self, letter: str) -> str:
        if self.odd(self.spelling / 8):
            return self.dice.choice([f"\\u{ord(letter) & 0xFFFF:04x}", "\\ud800", "\\/", "\x01"])
        return json.dumps(letter, ensure_ascii=self.odd(self.spelling))[1:-1]


def verdicts_agree(body: bytes, dialect: str, known: Facts) -> None:
    table = TABLES[dialect]
    whole = judge_whole(body, table=table, facts=known)
    first = judge(body, table=table, facts=known)
    assert same(first, whole), (body, first, whole)
    assert same(judge(body, table=table, facts=known), whole), "when it comes again"
    if not isinstance(whole, Refuse):
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        assert same(judge(body, table=table, facts=known, fields=fields), whole)


@pytest.mark.parametrize("dialect", sorted(TABLES))
@settings(max_examples=60)
@given(dice=st.randoms(use_true_random=False), data=st.data())
def test_whatever_is_sent_the_verdicts_agree(dialect: str, dice: random.Random, data: st.DataObject) -> None:
    maker = Maker(dice)
    body = maker.text(maker.members(TABLES[dialect].top, 0)).encode()
    opened = data.draw(st.frozensets(st.sampled_from(sorted(OPENABLE)), max_size=3))
    bounds = (
        frozenset({Bound("web-search", ("a.example",), 3)}) if "web-search" in opened else frozenset[Bound]()
    )
    known = Facts(agent="ann", secret=b"s" * 32, allowed=opened, bounds=bounds, models=("gpt-*",))
    verdicts_agree(body, dialect, known)
    verdicts_agree(body, dialect, FACTS)


@pytest.mark.parametrize("dialect", sorted(TABLES))
def test_the_maker_makes_what_passes_and_what_does_not(dialect: str) -> None:
    """Else the test before would say nothing."""
    seen = {Allow: 0, Amend: 0, Refuse: 0}
    for seed in range(300):
        maker = Maker(random.Random(seed))
        body = maker.text(maker.members(TABLES[dialect].top, 0)).encode()
        verdicts_agree(body, dialect, FACTS)
        seen[type(judge(body, table=TABLES[dialect], facts=FACTS))] += 1
    assert seen[Allow] > 5, seen
    assert seen[Amend] + seen[Refuse] > 5, seen


def walked(
    body: dict[str, Any] | bytes, dialect: str = "openai_chat", known: Facts = FACTS
) -> PolicyWalk | None:
    """The walk by member of a compact body; None where there is none."""
    text = body if isinstance(body, bytes) else msgspec.json.encode(body)
    walk = PolicyWalk(known)
    return None if TABLES[dialect].walk_members(walk, text, None) is None else walk


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","model":"m"}',
        b'{"model":"m","messages":[{"role":"user","role":"user","content":"x"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"x","content":"x"}]}',
        b'{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"x","text":"x"}]}]}',
        b'{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"x","type":"text"}]}]}',
        b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"\xed\xa0\x80"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"model":"m","temperature":1e999}',
        b'{"model":"m","n":1e5,"messages":[{"role":"user","content":"x","role":"user"}]}',
        b'{"model":"m"}}',
        b'{"model":"m"',
        b"[]",
        b"",
    ],
)
def test_what_two_parsers_may_read_differently_is_left_to_the_walk_over_the_whole(body: bytes) -> None:
    assert walked(body) is None
    assert isinstance(judge(body, table=TABLES["openai_chat"], facts=FACTS), Refuse)


def test_nested_results_are_as_deep_as_a_body_may_be() -> None:
    content: Any = "x"
    for _ in range(70):
        content = [{"type": "tool_result", "tool_use_id": "t", "content": content}]
    body = msgspec.json.encode(
        {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": content}]}
    )
    assert walked(body, "anthropic_messages") is None
    verdict = judge(body, table=TABLES["anthropic_messages"], facts=FACTS)
    assert isinstance(verdict, Refuse)
    assert verdict.rule == "too-deep"


def test_an_edit_in_one_entry_of_a_long_list_is_found_at_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [{"role": "user", "content": f"{n}"} for n in range(100)]
    entries[57]["surprise"] = "x"
    body = msgspec.json.encode({"model": "m", "messages": entries})
    for at_once in (by_member.READ_AT_ONCE, 1_000, 10):
        monkeypatch.setattr(by_member, "READ_AT_ONCE", at_once)
        verdict = judge(body, table=TABLES["openai_chat"], facts=FACTS)
        assert isinstance(verdict, Amend)
        assert [each.pointer for each in verdict.stripped] == ["/messages/57/surprise"]


# --- what is remembered ---------------------------------------------------------------------------

TOOLS = [
    {
        "type": "function",
        "function": {"name": f"f{n}", "description": "x" * 100, "parameters": {"type": "object"}},
    }
    for n in range(6)
]
SEARCH = {"type": "web_search", "name": "search"}


def test_tools_that_come_again_have_the_same_outcome() -> None:
    body = msgspec.json.encode(
        chat(tools=[*TOOLS, SEARCH], tool_choice={"type": "function", "name": "search"})
    )
    for _ in range(3):
        verdict = judge(body, table=TABLES["openai_chat"], facts=FACTS)
        assert isinstance(verdict, Refuse)  # the stripped tool is remembered by its name
        assert verdict.rule == "web-search"


def test_what_is_remembered_holds_for_the_same_open_rules_only() -> None:
    body = msgspec.json.encode(chat(tools=[*TOOLS, SEARCH]))
    for _ in range(2):
        assert isinstance(judge(body, table=TABLES["openai_chat"], facts=FACTS), Amend)
        assert judge(body, table=TABLES["openai_chat"], facts=facts("web-search")) == Allow()


def test_tools_of_the_same_length_are_others() -> None:
    good = msgspec.json.encode(chat(tools=TOOLS))
    bad = good.replace(
        b'"type":"function","function":{"name":"f5"', b'"type":"funktion","function":{"name":"f5"'
    )
    assert len(good) == len(bad)
    for _ in range(2):
        assert judge(good, table=TABLES["openai_chat"], facts=FACTS) == Allow()
        assert isinstance(judge(bad, table=TABLES["openai_chat"], facts=FACTS), Amend)


def test_the_hash_of_an_identity_is_each_callers_own() -> None:
    body = msgspec.json.encode(chat(prompt_cache_key={"k": "x" * 1_000}))
    hashes = set[bytes]()
    for agent in ("ann", "bob", "ann"):
        verdict = judge(body, table=TABLES["openai_chat"], facts=facts(agent=agent))
        assert isinstance(verdict, Amend)
        hashes.add(bytes(verdict.fields["prompt_cache_key"]))
    assert len(hashes) == 2


def test_no_more_is_remembered_than_the_limit() -> None:
    table = TABLES["openai_chat"]
    for n in range(3 * by_member.MAX_REMEMBERED):
        judge(msgspec.json.encode(chat(tools=[*TOOLS, {**SEARCH, "x": "y" * n}])), table=table, facts=FACTS)
    assert len(table.walk_members._outcomes) <= by_member.MAX_REMEMBERED
