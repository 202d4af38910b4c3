"""Opened tools that are held to bounds, each in the words of its form: which member lists domains,
and which says how often.

Above it stand the tables; below it the walk. Where nothing bounds the rule, an opened tool passes
as it did. Where something does, only known members of it pass, a list of domains is narrowed or
inserted, and a form that has no words for a bound is refused.
"""

from __future__ import annotations

import re
from typing import Any, cast

import msgspec

from modelplex.policy.bounds import Limit, covers, narrowed
from modelplex.policy.path import Path
from modelplex.policy.walk import OPENED, Inside, Json, PolicyRefusal, PolicyWalk, ValueRule

_ENTRY = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?:/[A-Za-z0-9._~*/-]{0,64})?")
"""A domain as a request names it, perhaps with a path below it."""


class BoundWords(msgspec.Struct, frozen=True):
    """A form's words for bounds. `allowed` and `blocked` are members that list domains, `within`
    the member that holds both ("" for the tool itself), `uses` the member that counts.

    `counted` says that a member at the top of the body counts instead (`Counted`).
    """

    allowed: str = ""
    blocked: str = ""
    within: str = ""
    uses: str = ""
    counted: bool = False


NO_WORDS = BoundWords()


class Bounded(ValueRule):
    """An opened tool. `known` looks at it where its rule is bounded, `opened` where it is not."""

    __slots__ = ("form", "known", "opened", "rule")

    def __init__(
        self, rule: str, form: BoundWords = NO_WORDS, *, known: ValueRule = OPENED, opened: ValueRule = OPENED
    ) -> None:
        self.rule = rule
        self.form = form
        self.known = known
        self.opened = opened

    def inside(self) -> Inside:
        return (("", self.opened), ("(bounded)", self.known))

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        limit = walk.limit(self.rule)
        if limit is None:
            if type(value) not in self.opened.passes:
                self.opened(walk, value, path)
            return
        if value is None:
            return
        if limit.domains is not None and not self.form.allowed:
            raise PolicyRefusal(self.rule, path, "no-domains-here")
        if limit.max_uses is not None and not (self.form.uses or self.form.counted):
            raise PolicyRefusal(self.rule, path, "no-count-here")
        if not isinstance(value, dict):
            raise PolicyRefusal("unknown-form", path)
        self._hold(walk, cast("Json", value), path, limit)
        if type(cast("object", value)) not in self.known.passes:
            self.known(walk, value, path)

    def _hold(self, walk: PolicyWalk, tool: Json, path: Path, limit: Limit) -> None:
        words = self.form
        if limit.domains is not None:
            self._hold_domains(walk, tool, path, limit.domains)
        if limit.max_uses is not None and words.uses:
            if self.rule in walk.held:
                raise PolicyRefusal(self.rule, path, "another-here")
            walk.held.add(self.rule)
            hold_number(walk, tool, (path, words.uses), self.rule, most=limit.max_uses)
        elif limit.max_uses is not None:
            walk.counted = limit.max_uses

    def _hold_domains(self, walk: PolicyWalk, tool: Json, path: Path, bound: tuple[str, ...]) -> None:
        words = self.form
        holder, where = tool, path
        if words.within:
            inner = tool.get(words.within)
            if inner is None:
                walk.write((path, words.within), self.rule, {words.allowed: list(bound)})
                return
            if not isinstance(inner, dict):
                raise PolicyRefusal("unknown-form", (path, words.within))
            holder, where = cast("Json", inner), (path, words.within)
        left = within_bound(holder.get(words.allowed), (where, words.allowed), self.rule, bound=bound)
        if words.blocked and holder.get(words.blocked) is not None:
            left = _without(left, holder[words.blocked], (where, words.blocked), self.rule)
            walk.strip((where, words.blocked), self.rule)
        if holder.get(words.allowed) != list(left):
            walk.write((where, words.allowed), self.rule, list(left))


def within_bound(asked: Any, path: Path, rule: str, *, bound: tuple[str, ...]) -> tuple[str, ...]:
    """The domains that a request is left with: what it names of those that are allowed, or all of
    them where it names none. Raises Refused where none is left.
    """
    names_none = asked is None or asked == []
    left = bound if names_none else narrowed(_domains(asked, path), bound)
    if not left:
        raise PolicyRefusal(rule, path, "no-domain-left")
    return left


def _without(allowed: tuple[str, ...], blocked: Any, path: Path, rule: str) -> tuple[str, ...]:
    """The allowed domains without the blocked ones: providers take one list or the other. A blocked
    part of an allowed domain cannot be said, and is refused rather than lost.
    """
    names = _domains(blocked, path)
    left = tuple(each for each in allowed if not any(covers(name, each.partition("/")[0]) for name in names))
    if any(covers(each.partition("/")[0], name.partition("/")[0]) for name in names for each in left):
        raise PolicyRefusal(rule, path, "both-lists-here")
    if not left:
        raise PolicyRefusal(rule, path, "no-domain-left")
    return left


def _domains(listed: Any, path: Path) -> list[str]:
    if not isinstance(listed, list):
        raise PolicyRefusal("unknown-form", path)
    entries = cast("list[Any]", cast("object", listed))
    names: list[str] = []
    for index, entry in enumerate(entries):
        name = entry.lower().rstrip(".") if isinstance(entry, str) else ""
        if not _ENTRY.fullmatch(name):
            raise PolicyRefusal("unknown-form", (path, index))
        names.append(name)
    return names


def hold_number(walk: PolicyWalk, holder: Json, path: Path, rule: str, *, most: int) -> None:
    """Writes the smaller of two numbers: what a request says at `path`, and what may be said."""
    said = holder.get(str(path[1])) if path else None
    if said is not None and (type(said) is not int or said < 0):
        raise PolicyRefusal("unknown-form", path)
    if said is None or said > most:
        walk.write(path, rule, most)


class Counted:
    """`max_tool_calls` of the Responses form: how often the provider may use tools of its own in
    one response, all of them together.
    """

    def __init__(self, key: str, rule: str) -> None:
        self.key = key
        self.rule = rule

    def __call__(self, walk: PolicyWalk, top: Json) -> None:
        if walk.counted is not None:
            hold_number(walk, top, (None, self.key), self.rule, most=walk.counted)


class Listed(ValueRule):
    """A list of domains at the top of a body, as Perplexity has it. An entry that begins with a
    dash is blocked there.
    """

    __slots__ = ("opened", "rule")

    def __init__(self, rule: str, opened: ValueRule = OPENED) -> None:
        self.rule = rule
        self.opened = opened

    def inside(self) -> Inside:
        return (("", self.opened),)

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        limit = walk.limit(self.rule)
        if limit is None:
            return
        if limit.max_uses is not None:
            raise PolicyRefusal(self.rule, path, "no-count-here")
        if limit.domains is not None:
            left = within_bound(value, path, self.rule, bound=limit.domains)
            if value != list(left):
                walk.write(path, self.rule, list(left))


class Plugins(ValueRule):
    """OpenRouter's `plugins`, where its own rule is open: the one that searches is held to the
    bounds of `web-search`.
    """

    __slots__ = ("web",)

    def __init__(self, web: ValueRule) -> None:
        self.web = web

    def inside(self) -> Inside:
        return (("[web]", self.web),)

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if walk.limit("web-search") is None:
            return
        if not isinstance(value, list):
            raise PolicyRefusal("unknown-form", path)
        for index, plugin in enumerate(cast("list[Any]", cast("object", value))):
            if not isinstance(plugin, dict):
                raise PolicyRefusal("unknown-form", (path, index))
            if cast("Json", plugin).get("id") == "web":
                self.web(walk, plugin, (path, index))
