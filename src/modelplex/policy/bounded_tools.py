"""Allowed tools with bounds: the domains that they may reach, and how often they may be used.

Each form has its own members for these. Without a bound an allowed tool passes as the dialect's
table says. With one, only known members pass, the list of domains is narrowed or inserted, and a
form that cannot express the bound is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from modelplex.policy.bounds import Limit, covers, intersect_domains
from modelplex.policy.path import Path
from modelplex.policy.walk import ANY_VALUE, Children, Json, PolicyRefusal, PolicyWalk, ValueRule

_DOMAIN_ENTRY = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?:/[A-Za-z0-9._~*/-]{0,64})?")
"""A domain as a request writes it, with an optional path."""


class BoundFields(msgspec.Struct, frozen=True):
    """The members of a form that express bounds, "" for none.

    allowed, blocked  lists of domains
    parent            the member that holds both lists; "" for the tool itself
    max_uses          the maximum number of uses
    counted_at_top    a member at the top of the body limits the uses (`MaxToolCallsCheck`)
    """

    allowed: str = ""
    blocked: str = ""
    parent: str = ""
    max_uses: str = ""
    counted_at_top: bool = False


NO_FIELDS = BoundFields()


class BoundedToolRule(ValueRule):
    """An allowed tool. Applies `bounded` if its rule has bounds, else `unbounded`."""

    __slots__ = ("bounded", "fields", "rule", "unbounded")

    def __init__(
        self,
        rule: str,
        fields: BoundFields = NO_FIELDS,
        *,
        bounded: ValueRule = ANY_VALUE,
        unbounded: ValueRule = ANY_VALUE,
    ) -> None:
        self.rule = rule
        self.fields = fields
        self.bounded = bounded
        self.unbounded = unbounded

    def children(self) -> Children:
        return (("", self.unbounded), ("(bounded)", self.bounded))

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        limit = walk.limit(self.rule)
        if limit is None:
            if type(value) not in self.unbounded.allowed_types:
                self.unbounded(walk, value, path)
            return
        if value is None:
            return
        if limit.domains is not None and not self.fields.allowed:
            raise PolicyRefusal(self.rule, path, "no-domains-here")
        if limit.max_uses is not None and not (self.fields.max_uses or self.fields.counted_at_top):
            raise PolicyRefusal(self.rule, path, "no-count-here")
        if not isinstance(value, dict):
            raise PolicyRefusal("unknown-form", path)
        self._apply(walk, cast("Json", value), path, limit)
        if type(cast("object", value)) not in self.bounded.allowed_types:
            self.bounded(walk, value, path)

    def _apply(self, walk: PolicyWalk, tool: Json, path: Path, limit: Limit) -> None:
        if limit.domains is not None:
            self._narrow_domains(walk, tool, path, limit.domains)
        if limit.max_uses is None:
            return
        if not self.fields.max_uses:
            walk.max_tool_calls = limit.max_uses
            return
        if self.rule in walk.counted_rules:
            raise PolicyRefusal(self.rule, path, "another-here")
        walk.counted_rules.add(self.rule)
        _cap_number(walk, tool, (path, self.fields.max_uses), self.rule, maximum=limit.max_uses)

    def _narrow_domains(self, walk: PolicyWalk, tool: Json, path: Path, bound: tuple[str, ...]) -> None:
        fields = self.fields
        holder, where = tool, path
        if fields.parent:
            where = (path, fields.parent)
            inner = tool.get(fields.parent)
            if inner is None:
                walk.overwrite(where, self.rule, {fields.allowed: list(bound)})
                return
            if not isinstance(inner, dict):
                raise PolicyRefusal("unknown-form", where)
            holder = cast("Json", inner)
        domains = _narrowed(holder.get(fields.allowed), (where, fields.allowed), self.rule, bound=bound)
        if fields.blocked and holder.get(fields.blocked) is not None:
            domains = _without(domains, holder[fields.blocked], (where, fields.blocked), self.rule)
            walk.strip((where, fields.blocked), self.rule)
        if holder.get(fields.allowed) != list(domains):
            walk.overwrite((where, fields.allowed), self.rule, list(domains))


def _narrowed(requested: Any, path: Path, rule: str, *, bound: tuple[str, ...]) -> tuple[str, ...]:
    """The requested domains within the bound; all of the bound if none is requested. Raises
    PolicyRefusal if none is left.
    """
    is_empty = requested is None or requested == []
    domains = bound if is_empty else intersect_domains(_domains(requested, path), bound)
    if not domains:
        raise PolicyRefusal(rule, path, "no-domain-left")
    return domains


def _without(allowed: tuple[str, ...], blocked: Any, path: Path, rule: str) -> tuple[str, ...]:
    """The allowed domains without the blocked ones, since providers accept one list or the other. A
    blocked part of an allowed domain cannot be expressed, and is refused.
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
        if not _DOMAIN_ENTRY.fullmatch(name):
            raise PolicyRefusal("unknown-form", (path, index))
        names.append(name)
    return names


def _cap_number(walk: PolicyWalk, holder: Mapping[str, Any], path: Path, rule: str, *, maximum: int) -> None:
    """Lower the number at `path` to the maximum, or write the maximum if there is no number."""
    number = holder.get(str(path[1])) if path else None
    if number is not None and (type(number) is not int or number < 0):
        raise PolicyRefusal("unknown-form", path)
    if number is None or number > maximum:
        walk.overwrite(path, rule, maximum)


class MaxToolCallsCheck:
    """`max_tool_calls` of Responses: how often the provider may use its own tools in one response,
    all of them together.
    """

    def __init__(self, key: str, rule: str) -> None:
        self.key = key
        self.rule = rule

    def __call__(self, walk: PolicyWalk, top: Mapping[str, Any]) -> None:
        if walk.max_tool_calls is not None:
            _cap_number(walk, top, (None, self.key), self.rule, maximum=walk.max_tool_calls)


class DomainListRule(ValueRule):
    """A list of domains at the top of a body, as Perplexity has it. An entry that begins with a
    dash blocks a domain there, and is refused here.
    """

    __slots__ = ("rule",)

    def __init__(self, rule: str) -> None:
        self.rule = rule

    def children(self) -> Children:
        return (("", ANY_VALUE),)

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        limit = walk.limit(self.rule)
        if limit is None:
            return
        if limit.max_uses is not None:
            raise PolicyRefusal(self.rule, path, "no-count-here")
        if limit.domains is not None:
            domains = _narrowed(value, path, self.rule, bound=limit.domains)
            if value != list(domains):
                walk.overwrite(path, self.rule, list(domains))


class PluginListRule(ValueRule):
    """OpenRouter's `plugins`, if its own rule is allowed: the plugin `web` has the bounds of
    `web-search`.
    """

    __slots__ = ("web",)

    def __init__(self, web: ValueRule) -> None:
        self.web = web

    def children(self) -> Children:
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
