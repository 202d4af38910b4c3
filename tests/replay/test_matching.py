"""Requests that are the same, and what differs between two that are not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelplex.replay.answers import listed_rules
from modelplex.replay.matching import Matcher, VolatileRules


def body(text: str, **more: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **more}).encode()


def key(matcher: Matcher, content: bytes, **more: Any) -> bytes:
    settings: dict[str, Any] = {"endpoint": "messages", "model": "m", "stream": False, **more}
    return matcher.key_of(content, **settings)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Today is 2026-12-01.", "Today is 2027-01-02."),
        ("at 2026-12-01T10:00:00.123Z", "at 2026-12-02 11:30:00"),
        ("Tuesday, December 1, 2026", "Wed Dec 02 2026"),
        ("on 12/1/2026 at 9:05:00 PM", "on 1/12/2027 at 10:15:01 AM"),
        ("session 0199a3b2-0000-4000-8000-00000000abcd", "session 11111111-2222-3333-4444-555555555555"),
        ("in /tmp/mp-abc/work", "in /tmp/mp-x_y.z/work"),
        ("in /home/ada/project", "in /Users/grace/project"),
        ("Wall time: 0.05 seconds", "Wall time: 12 seconds"),
        ("call_abcdefgh1", "call_zyxwvuts2"),
        ("Process Group PGID: 27986", "Process Group PGID: 7"),
        ("/root/.claude/projects/-tmp-mp-1-work/x", "/home/a/.claude/projects/-srv-b/x"),
        ("at 1796158994", "at 1796158994447"),
    ],
)
def test_what_differs_from_run_to_run_is_not_compared(one: str, other: str) -> None:
    matcher = Matcher(listed_rules())
    assert key(matcher, body(one)) == key(matcher, body(other))
    assert matcher.difference(body(one), body(other)) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [("3 files", "4 files"), ("/tmp/a/work", "/tmp/a/play"), ("", " "), ("version 1.2", "version 1.3")],
)
def test_anything_else_is_compared(one: str, other: str) -> None:
    matcher = Matcher(listed_rules())
    assert key(matcher, body(one)) != key(matcher, body(other))
    assert matcher.difference(body(one), body(other)) is not None


def test_the_order_of_members_and_spaces_make_no_difference() -> None:
    matcher = Matcher(VolatileRules())
    assert key(matcher, b'{"a": 1, "b": [1, 2]}') == key(matcher, b'{"b":[1,2],"a":1}')
    assert key(matcher, b'{"b":[1,2]}') != key(matcher, b'{"b":[2,1]}')


def test_endpoint_model_and_stream_belong_to_a_request() -> None:
    matcher = Matcher(VolatileRules())
    content = body("Hi")
    found = {
        key(matcher, content),
        key(matcher, content, endpoint="responses"),
        key(matcher, content, model="n"),
        key(matcher, content, stream=True),
    }
    assert len(found) == 4


def test_members_are_left_out_by_their_place() -> None:
    rules = VolatileRules(("metadata.user_id", "tools.*.seen", "**.stamp"), {})
    matcher = Matcher(rules)
    one = body("Hi", metadata={"user_id": "a", "kept": 1}, tools=[{"seen": 1, "name": "t"}], stamp=1)
    other = body("Hi", metadata={"user_id": "b", "kept": 1}, tools=[{"name": "t", "stamp": 3}])
    assert key(matcher, one) == key(matcher, other)
    assert key(matcher, one) != key(matcher, body("Hi", metadata={"kept": 2}, tools=[{"name": "t"}]))
    assert key(matcher, body("Hi", user_id="a")) != key(matcher, body("Hi", user_id="b"))


def test_the_working_folders_are_one() -> None:
    matcher = Matcher(VolatileRules(), folders=("/srv/a", "/srv/a/deep/er"))
    assert key(matcher, body("in /srv/a/x")) == key(matcher, body("in /srv/a/deep/er/x"))


def test_a_rule_may_have_groups() -> None:
    matcher = Matcher(VolatileRules((), {"first": "(x)(y)", "second": "z(1|2)"}))
    assert matcher.comparable("xy z1 z2") == "<first> <second> <second>"


def test_a_body_that_is_no_json_is_compared_as_it_is_but_for_its_boundary() -> None:
    matcher = Matcher(VolatileRules())
    one = b"--aaa\r\nfile\r\n--aaa--"
    assert key(matcher, one) == key(matcher, one.replace(b"aaa", b"bbb"))
    assert key(matcher, one) != key(matcher, one.replace(b"file", b"other"))


def difference(one: bytes, other: bytes) -> tuple[str, str, str]:
    found = Matcher(listed_rules()).difference(one, other)
    assert found is not None
    return found.path, found.recorded, found.now


def test_the_first_difference_has_its_path() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "go"},
        {"role": "tool", "content": [{"type": "text", "text": "3 files, 2026-12-01"}]},
    ]
    one = json.dumps({"messages": messages}).encode()
    other = one.replace(b"3 files, 2026-12-01", b"4 files, 2026-12-02")
    assert difference(one, other) == (
        "messages[1].content[0].text",
        '"3 files, <date>"',
        '"4 files, <date>"',
    )


def test_what_only_one_has_is_named() -> None:
    assert difference(body("a"), body("a", top_p=1)) == ("top_p", "nothing", "1")
    assert difference(body("a", top_p=1), body("a")) == ("top_p", "1", "nothing")
    assert difference(b'{"a":[1]}', b'{"a":[1,{"b":2}]}') == ("a[1]", "nothing", '{"b":2}')
    assert difference(b'{"a":[1,2]}', b'{"a":[1]}') == ("a[1]", "2", "nothing")
    assert difference(b'{"a":1}', b'{"a":"1"}') == ("a", "1", '"1"')


def test_of_long_texts_the_place_is_shown_where_they_differ() -> None:
    path, recorded, now = difference(body("x" * 500 + "old"), body("x" * 500 + "new"))
    assert path == "messages[0].content"
    assert recorded.endswith('old"')
    assert now.endswith('new"')
    assert len(recorded) < 80
