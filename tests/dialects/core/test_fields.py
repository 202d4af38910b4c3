"""Rows of a body: what they read, write, put back and judge."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Raw

from modelplex.core.errors import BadRequest
from modelplex.core.request import Change, ChatRequest, Sampling
from modelplex.dialects.core.fields import Field, FieldTable, rules_of, texts, unread
from modelplex.dialects.core.ledger import Ledger
from modelplex.policy.leaves import FLAG, NUMBER, TEXT
from modelplex.policy.walk import ValueRule

_OPTIONS = (
    Field("top_k", NUMBER, "sampling.top_k", int),
    Field("seed", NUMBER, "sampling.seed", int, lambda seed: seed if seed >= 0 else None),
    Field("level", TEXT, "reasoning.effort", Literal["low", "high"], writes=False),
    Field("odd", FLAG),
)
TABLE = FieldTable(
    (
        Field("model", TEXT, "model"),
        Field("limit", NUMBER, "max_tokens", Annotated[int, Meta(ge=1)]),
        Field("old_limit", NUMBER, "max_tokens", int, writes=False),
        Field("account", TEXT, "user", str, rides=True),
        Field("user", TEXT, "user", str, writes=False, rides=True),
        Field("heat", NUMBER, "sampling.temperature", float, most=1.0),
        Field("stop", TEXT, "sampling.stop", str | list[str], texts, most=2),
        Field("tier", TEXT, "tier", str, foreign={"auto": "any"}),
        Field("labels", TEXT, "metadata", Raw, foreign={}),
        Field("options", FLAG, inside=_OPTIONS),
        Field("choice", TEXT, "choice"),
        *unread("first second", FLAG),
    ),
    kin=frozenset({"own"}),
)


def read(**body: Any) -> Any:
    return TABLE.read({name: Raw(json.dumps(value).encode()) for name, value in body.items()})


def written(dialect: str = "other", **members: Any) -> tuple[dict[str, Any], tuple[Change, ...]]:
    ledger = Ledger(ChatRequest(dialect=dialect, model="m", messages=(), **members))
    body: dict[str, Any] = {}
    TABLE.write(ledger, body)
    return body, ledger.settle()


def test_plain_values_are_read_with_the_members_that_they_stood_in() -> None:
    members = read(limit=5, heat=1, options={"top_k": 3, "seed": -1}, model="m").members()
    assert members.pop("sampling") == Sampling(temperature=1.0, top_k=3)
    paths = {
        "max_tokens": "limit",
        "sampling.temperature": "heat",
        "sampling.top_k": "options.top_k",
    }
    assert members == {"max_tokens": 5, "extra": {}, "paths": paths, "changes": ()}


@pytest.mark.parametrize("body", [{"limit": 7, "old_limit": 5}, {"old_limit": 5, "limit": 7}])
def test_the_first_row_of_a_leaf_counts_and_another_value_is_lost(body: dict[str, int]) -> None:
    values = read(**body)
    assert (values.get("max_tokens"), values.paths["max_tokens"]) == (7, "limit")
    assert values.changes == [Change("drop", "old_limit", "'limit' is used instead")]
    assert read(limit=7, old_limit=7).changes == []


@pytest.mark.parametrize("body", [{"account": "a", "user": "u"}, {"user": "u", "account": "a"}])
def test_a_value_that_rides_is_kept_for_the_same_dialect(body: dict[str, str]) -> None:
    values = read(**body)
    assert (values.get("user"), values.extra, values.changes) == ("a", {"user": Raw(b'"u"')}, [])


def test_what_has_no_leaf_and_what_nobody_knows_rides_along_by_its_path() -> None:
    members = read(first=True, unknown=1, options={"odd": True, "new": 2}, second=None).members()
    extra = {name: bytes(raw) for name, raw in members["extra"].items()}
    assert extra == {"first": b"true", "unknown": b"1", "options.odd": b"true", "options.new": b"2"}


def test_a_special_member_that_is_not_taken_rides_along() -> None:
    values = read(choice="x")
    assert values.paths == {"choice": "choice"}
    assert set(values.members()["extra"]) == {"choice"}
    assert read(choice="x").decode("choice", str) == "x"


@pytest.mark.parametrize(
    ("body", "param", "reason"),
    [
        ({"limit": 0}, "limit", ">= 1"),
        ({"heat": "hot"}, "heat", "expected `float`"),
        ({"options": {"top_k": "x"}}, "options.top_k", "expected `int`"),
        ({"options": {"level": "mid"}}, "options.level", "must be one of low, high"),
        ({"options": 5}, "options", "expected `object`"),
    ],
)
def test_a_wrong_value_is_named_by_its_path(body: dict[str, Any], param: str, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason) as caught:
        read(**body)
    assert caught.value.param == param


def test_a_reason_of_a_conversion_becomes_a_bad_request() -> None:
    def refuse(value: int) -> int:
        raise ValueError(f"is {value}, which is no level")

    table = FieldTable((Field("level", NUMBER, "max_tokens", int, refuse),))
    with pytest.raises(BadRequest, match="'level' is 3, which is no level") as caught:
        table.read({"level": Raw(b"3")})
    assert caught.value.param == "level"


def test_leaves_are_written_to_their_members_and_cut_to_their_bounds() -> None:
    sampling = Sampling(temperature=1.5, stop=("a", "b", "c"), seed=4)
    body, changes = written(sampling=sampling, max_tokens=9, tier="auto")
    assert body == {"limit": 9, "heat": 1.0, "stop": ("a", "b"), "tier": "any"}
    assert [(change.op, change.path) for change in changes] == [
        ("clamp", "temperature"),
        ("clamp", "stop"),
        ("drop", "seed"),
    ]
    body, changes = written("own", sampling=sampling)
    assert (body["heat"], body["stop"]) == (1.5, ("a", "b", "c"))


def test_a_value_that_means_something_else_here_is_not_written() -> None:
    labels = Raw(b'{"a":"b"}')
    body, changes = written(tier="flex", metadata=labels)
    assert body == {}
    assert [change.path for change in changes] == ["metadata", "tier"]
    assert written("own", tier="flex", metadata=labels)[0] == {"tier": "flex", "labels": labels}


def test_members_are_put_back_where_they_stood_and_what_was_written_stays() -> None:
    body: dict[str, Any] = {"first": 1, "options": {"top_k": 2}}
    raw = Raw(b"9")
    TABLE.put_back(
        body, {"first": raw, "options.top_k": raw, "options.odd": raw, "a.b": raw, "options.c.d": raw}
    )
    assert body == {"first": 1, "options": {"top_k": 2, "odd": raw, "c.d": raw}, "a.b": raw}


def test_both_spellings_are_read_and_judged_and_the_clients_own_is_reported() -> None:
    inner = (Field("topK", NUMBER, "sampling.top_k", int),)
    table = FieldTable(
        (Field("myConfig", NUMBER, inside=inner),),
        spell=lambda name: name.replace("_k", "K").replace("_c", "C"),
        respell=lambda name: name.replace("K", "_k").replace("C", "_c"),
    )
    values = table.read({"my_config": Raw(b'{"top_k":3,"new_kind":1}')})
    assert values.paths == {"sampling.top_k": "my_config.top_k", "myConfig.newKind": "my_config.new_kind"}
    assert set(values.extra) == {"myConfig.newKind"}
    assert set(table.policy.fields) == {"myConfig", "my_config"}


def test_the_allow_list_is_the_rows() -> None:
    rules: dict[str, ValueRule] = {"top_k": NUMBER, "seed": NUMBER, "level": TEXT, "odd": FLAG}
    assert rules_of(_OPTIONS) == rules
    assert set(TABLE.policy.fields) == {row.name for row in TABLE.rows}


def test_two_rows_of_one_member_are_an_error() -> None:
    with pytest.raises(ValueError, match="two rows"):
        FieldTable((Field("a", NUMBER), Field("a", FLAG)))


def test_a_member_of_null_is_absent() -> None:
    assert read(limit=None, options={"top_k": None}).members() == {"extra": {}, "paths": {}, "changes": ()}
    assert msgspec.json.encode(read(labels={"a": None}).get("metadata")) == b'{"a": null}'
