"""Bodies of a conversation that goes on: the same parts as if each were read whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelplex.records.store import known_bodies
from modelplex.records.store.known_bodies import KnownBodies
from modelplex.records.store.parts import SplitBody, split_body
from tests.records.store.session import session
from tests.records.store.stored import MEMBERS, body

SECRET = b"sk-canary-0123456789"


def mask(text: bytes) -> bytes:
    return text.replace(SECRET, b"********")


def split(known: KnownBodies, content: bytes, seed: bytes = b"") -> SplitBody:
    masked, found = known.split(content, conversation=MEMBERS, seed=seed, mask=mask)
    assert masked == mask(content)
    assert found == split_body(masked, conversation=MEMBERS, seed=seed)
    return found


def test_a_session_is_split_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    whole: list[int] = []

    def counted(content: bytes, **more: Any) -> SplitBody:
        whole.append(len(content))
        return split_body(content, **more)

    monkeypatch.setattr(known_bodies, "split_body", counted)
    known = KnownBodies()
    for call in session(30):
        assert call.request_body is not None
        split(known, call.request_body)
    assert len(whole) <= 2  # the second request writes the only message of the first in another form


def dumps(document: object, **more: Any) -> bytes:
    return json.dumps(document, **more).encode()


MESSAGES = [
    {"role": role, "content": f"words {number} " * 30}
    for number, role in enumerate(["user", "assistant"] * 5)
]


FIRST: dict[str, Any] = {
    "model": "m",
    "system": "s" * 400,
    "messages": MESSAGES,
    "tools": [{"name": "t" * 300}],
}
ANOTHER = {"role": "user", "content": "other"}
CHANGES: list[dict[str, Any]] = [
    {"messages": [*MESSAGES, ANOTHER]},
    {"messages": MESSAGES[:-1]},
    {"messages": [*MESSAGES[:-1], ANOTHER]},
    {"messages": MESSAGES[:3]},
    {"messages": []},
    {"tools": [{"name": "n" * 500}]},
    {"system": "other " * 100},
    {"messages": [*MESSAGES, {"role": "user", "content": SECRET.decode()}]},
]
ENDS = [b"}  ", b', "messages": [1]}', b', "tools": 1}', b""]


@pytest.mark.parametrize(
    "order", [("model", "system", "messages", "tools"), ("model", "messages", "system", "tools")]
)
def test_whatever_follows_is_split_as_if_it_were_the_first(order: tuple[str, ...]) -> None:
    first = {name: FIRST[name] for name in order}
    whole = dumps(first)
    following = [dumps({**first, **change}) for change in CHANGES] + [whole[:-1] + end for end in ENDS]
    for each in [*following, dumps(first, indent=1), whole[:-50]]:
        known = KnownBodies()
        split(known, whole)
        split(known, each)
        split(known, whole)


def test_a_secret_across_what_is_known_and_what_is_new_is_found() -> None:
    known = KnownBodies()
    start = b'{"messages":[{"role":"user","content":"' + b"x" * 2000 + b'"}'
    split(known, start + b"]}")
    split(known, start + b',{"role":"user","content":"' + SECRET + b'"}]}')
    assert SECRET not in repr(known._known).encode()


def test_owners_do_not_share() -> None:
    known = KnownBodies()
    one, other = (split(known, body("a" * 500, "b"), seed) for seed in (b"a", b"b"))
    assert one.turns != other.turns


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    known = KnownBodies()
    for number in range(known_bodies.KEPT + 5):
        split(known, body(f"{number} " * 300))
    assert len(known._known) == known_bodies.KEPT
    monkeypatch.setattr(known_bodies, "KEPT_BYTES", 3_000)
    split(known, body("x" * 1_000))
    assert known._bytes <= 3_000
    split(known, body("y" * 5_000))
    assert known._bytes <= 3_000
    known.clear()
    assert (known._bytes, len(known._known)) == (0, 0)
