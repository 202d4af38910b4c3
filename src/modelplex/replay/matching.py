"""Which request is which: bodies compared without what differs from run to run, and what differs
between two of them.

Volatile members are left out; in texts, what a rule matches is replaced by the rule's name. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Final, cast

import msgspec

from modelplex.replay.recording import RecordedCall

SHOWN: Final = 60
"""Characters of a value in an explanation."""
CACHED: Final = 20_000
"""Texts whose comparable form is kept: a conversation repeats them with every request."""
LONG: Final = 32
"""Characters from which a text is kept."""
ABSENT: Final = "nothing"

_encode = msgspec.json.Encoder(order="sorted").encode


class VolatileRules(msgspec.Struct, frozen=True):
    """`members` are places such as "metadata.user_id"; `*` is any member or item, a leading `**.`
    any depth. `texts` are regular expressions by name.
    """

    members: tuple[str, ...] = ()
    texts: Mapping[str, str] = {}


class Difference(msgspec.Struct, frozen=True):
    """The first place at which two bodies differ, and what is there, shortened."""

    path: str
    recorded: str
    now: str


class Matcher:
    """Compares requests. `folders` are working folders: the recorded one and the present one."""

    def __init__(self, rules: VolatileRules, *, folders: Sequence[str] = ()) -> None:
        """Raises re.error."""
        names = list(rules.texts)
        known = sorted({each for each in folders if len(each) > 1}, key=len, reverse=True)
        self._names = [*(["folder"] if known else []), *names]
        texts = ["|".join(map(re.escape, known))] if known else []
        texts += [rules.texts[name] for name in names]
        groups = [f"(?P<rule{number}>{text})" for number, text in enumerate(texts)]
        self._volatile = re.compile("|".join(groups)) if groups else None
        self._anywhere = frozenset(each[3:] for each in rules.members if each.startswith("**."))
        self._members = tuple(tuple(each.split(".")) for each in rules.members if not each.startswith("**."))
        self._known: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<Matcher {len(self._names)} texts, {len(self._members) + len(self._anywhere)} members>"

    def key(self, call: RecordedCall) -> bytes:
        return self.key_of(call.request, endpoint=call.endpoint, model=call.model, stream=call.stream)

    def key_of(self, body: bytes, *, endpoint: str, model: str, stream: bool) -> bytes:
        """Equal for requests that are the same but for what is volatile."""
        head = f"{endpoint}\0{model}\0{int(stream)}\0".encode()
        return sha256(head + self._canonical(body)).digest()

    def _canonical(self, body: bytes) -> bytes:
        value = _decode(body)
        if value is None:
            boundary = body.split(b"\r\n", 1)[0] if body.startswith(b"--") else b""
            return body.replace(boundary, b"") if boundary else body
        return _encode(self.comparable(value))

    def comparable(self, value: object) -> object:
        """The value without what is volatile."""
        return self._stripped(value, self._members)

    def _stripped(self, value: object, members: Sequence[tuple[str, ...]]) -> object:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            below = _below(members, "*")
            return [self._stripped(each, below) for each in cast("list[object]", value)]
        if isinstance(value, dict):
            kept: dict[str, object] = {}
            for name, each in cast("dict[str, object]", value).items():
                if name in self._anywhere or any(
                    len(path) == 1 and path[0] in {name, "*"} for path in members
                ):
                    continue
                kept[name] = self._stripped(each, _below(members, name) if members else ())
            return kept
        return value

    def _text(self, text: str) -> str:
        if self._volatile is None:
            return text
        if len(text) < LONG:
            return self._volatile.sub(self._name, text)
        found = self._known.get(text)
        if found is None:
            if len(self._known) >= CACHED:
                self._known.clear()
            found = self._known[text] = self._volatile.sub(self._name, text)
        return found

    def _name(self, found: re.Match[str]) -> str:
        """The outer group is the last one that ends."""
        return f"<{self._names[int((found.lastgroup or 'rule0').removeprefix('rule'))]}>"

    # --- what differs ---

    def likeness(self, body: bytes, other: bytes) -> int:
        """How many values two bodies have in common, at the same places."""
        return len(self._leaves(body) & self._leaves(other))

    def _leaves(self, body: bytes) -> frozenset[tuple[str, object]]:
        value = _decode(body)
        return frozenset() if value is None else frozenset(_leaves(self.comparable(value), ""))

    def difference(self, recorded: bytes, now: bytes) -> Difference | None:
        """The first difference in the order of the present body; None where there is none."""
        before, after = _decode(recorded), _decode(now)
        if before is None or after is None:
            return None if recorded == now else Difference("the body", "other bytes", "these bytes")
        return self._difference(before, after, "", self._members)

    def _difference(
        self, before: object, after: object, path: str, members: Sequence[tuple[str, ...]]
    ) -> Difference | None:
        old, new = _object(before), _object(after)
        if old is not None and new is not None:
            shown = (self._stripped(old, members), self._stripped(new, members))
            kept = [cast("dict[str, object]", each) for each in shown]
            for name in dict.fromkeys([*new, *old]):
                if name not in kept[0] and name not in kept[1]:
                    continue
                place = f"{path}.{name}" if path else name
                if name not in old or name not in new:
                    return Difference(place, _shown(old.get(name, _NONE)), _shown(new.get(name, _NONE)))
                if kept[0].get(name) != kept[1].get(name):
                    return self._difference(old[name], new[name], place, _below(members, name))
            return None
        olds, news = _list(before), _list(after)
        if olds is not None and news is not None:
            below = _below(members, "*")
            for number, (one, other) in enumerate(zip(olds, news, strict=False)):
                found = self._difference(one, other, f"{path}[{number}]", below)
                if found is not None:
                    return found
            if len(olds) == len(news):
                return None
            number = min(len(olds), len(news))
            one = olds[number] if number < len(olds) else _NONE
            other = news[number] if number < len(news) else _NONE
            return Difference(f"{path}[{number}]", _shown(one), _shown(other))
        return self._difference_of_values(before, after, path, members)

    def _difference_of_values(
        self, before: object, after: object, path: str, members: Sequence[tuple[str, ...]]
    ) -> Difference | None:
        if self._stripped(before, members) == self._stripped(after, members):
            return None
        if isinstance(before, str) and isinstance(after, str):
            return Difference(path, *self._shown_texts(before, after))
        return Difference(path, _shown(before), _shown(after))

    def _shown_texts(self, before: str, after: str) -> tuple[str, str]:
        """Both from a little before the first character that differs."""
        one, other = self._text(before), self._text(after)
        at = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
        start = max(0, (min(len(one), len(other)) if at is None else at) - SHOWN // 3)
        return _shown(one[start:]), _shown(other[start:])


_NONE: Final = object()


def _below(members: Sequence[tuple[str, ...]], name: str) -> list[tuple[str, ...]]:
    return [path[1:] for path in members if len(path) > 1 and path[0] in {name, "*"}]


def _leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, each in cast("dict[str, object]", value).items():
            yield from _leaves(each, f"{path}.{name}")
    elif isinstance(value, list):
        for number, each in enumerate(cast("list[object]", value)):
            yield from _leaves(each, f"{path}[{number}]")
    else:
        yield path, value


def _object(value: object) -> dict[str, object] | None:
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def _list(value: object) -> list[object] | None:
    return cast("list[object]", value) if isinstance(value, list) else None


def _decode(body: bytes) -> object | None:
    """None for a body that is no JSON object."""
    try:
        value: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return cast("object", value) if isinstance(value, dict) else None


def _shown(value: object) -> str:
    if value is _NONE:
        return ABSENT
    text = _encode(value).decode()
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
