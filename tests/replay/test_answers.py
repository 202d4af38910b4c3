"""Which recorded call answers a request."""

from __future__ import annotations

import json
from typing import Any

from modelplex.replay.answers import RecordedAnswers, listed_rules
from modelplex.replay.matching import Matcher
from modelplex.replay.recording import RecordedCall, RecordedRun, RunRecording


def body(text: str, **more: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": text}], **more}).encode()


def call(number: int, content: bytes, **more: Any) -> RecordedCall:
    settings: dict[str, Any] = {"endpoint": "messages", "model": "m", **more}
    return RecordedCall(id=f"mpx-{number}", pieces=(content,), response=b"%d" % number, **settings)


def answers(*calls: RecordedCall) -> RecordedAnswers:
    return RecordedAnswers(RunRecording("test", RecordedRun(id="run-1"), calls), Matcher(listed_rules()))


def taken(found: RecordedAnswers, content: bytes) -> str | None:
    key = found.key_of(content, endpoint="messages", model="m", stream=False)
    taken = found.take(key, content)
    return None if taken is None else taken.id


def test_equal_requests_get_their_answers_in_order_and_then_again() -> None:
    found = answers(call(1, body("a")), call(2, body("b")), call(3, body("a")), call(4, body("a")))
    assert [taken(found, body("a")) for _ in range(4)] == ["mpx-1", "mpx-3", "mpx-4", "mpx-1"]
    assert taken(found, body("b")) == "mpx-2"
    assert taken(found, body("c")) is None


def test_of_requests_that_differ_in_a_volatile_place_the_same_one_comes_first() -> None:
    found = answers(call(1, body("at 10:00:00")), call(2, body("at 11:00:00")))
    assert [taken(found, body("at 11:00:00")), taken(found, body("at 12:00:00"))] == ["mpx-2", "mpx-1"]


def test_an_answer_that_its_client_did_not_wait_for_is_used_where_there_is_no_other() -> None:
    found = answers(
        call(1, body("a"), outcome="client_closed"),
        call(2, body("a")),
        call(3, body("b"), outcome="client_closed"),
    )
    assert [taken(found, body("a")), taken(found, body("a")), taken(found, body("b"))] == [
        "mpx-2",
        "mpx-2",
        "mpx-3",
    ]


def test_the_nearest_recording_has_the_most_in_common() -> None:
    found = answers(
        call(1, body("a", temperature=1)),
        call(2, body("a", temperature=1, top_p=1)),
        call(3, body("a", temperature=1, top_p=1), endpoint="responses"),
    )
    nearest = found.nearest(body("b", temperature=1, top_p=1), endpoint="messages")
    assert nearest is not None
    assert (nearest.number, nearest.call.id) == (2, "mpx-2")
    assert nearest.difference is not None
    assert nearest.difference.path == "messages[0].content"
    assert found.nearest(body("b"), endpoint="embeddings") is None


def test_calls_of_another_kind_are_left_alone() -> None:
    found = answers(call(1, body("a"), kind="tool"))
    assert taken(found, body("a")) is None
    assert found.models == []


def test_a_config_may_add_rules() -> None:
    rules = listed_rules(["extra.id"], ["build [0-9]+"])
    matcher = Matcher(rules)
    one = matcher.key_of(body("build 1", extra={"id": 1}), endpoint="e", model="m", stream=False)
    assert one == matcher.key_of(body("build 22", extra={"id": 2}), endpoint="e", model="m", stream=False)
