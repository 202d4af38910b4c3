"""What all dialects' tools have in common: stripped tools are remembered, and a choice that forces
one is refused.

Above it stand the tables; below it the walk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from modelplex.policy.leaves import KIND
from modelplex.policy.path import Path
from modelplex.policy.walk import (
    CustomRule,
    Json,
    ListRule,
    ObjectRule,
    PolicyWalk,
    RefuseRule,
    StripRule,
    ValueRule,
    VariantRule,
    unknown_form,
)

DIRECT = "direct"
Finish = Callable[[PolicyWalk, Json], None]
"""What is judged when all members are: a choice among tools, by what became of the tools."""


class LostTool(StripRule):
    """A stripped tool, whose name is remembered."""

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not walk.open(self.rule):
            walk.lost[name_of(cast("Json", value))] = self.rule
        super().__call__(walk, value, path)


def name_of(tool: Json) -> str:
    """The name of a tool or of a choice, or ""."""
    for holder in (tool, tool.get("function"), tool.get("custom")):
        if isinstance(holder, dict) and isinstance(name := cast("Json", holder).get("name"), str):
            return name
    return ""


UNKNOWN_TOOL = LostTool("unknown-tool")


def _direct_only(walk: PolicyWalk, value: Any, path: Path) -> None:
    """`allowed_callers`: of whom the model alone is left, and never code that the provider runs."""
    if value is None or value == [DIRECT] or walk.open("code-execution"):
        return
    if not isinstance(value, list):
        walk.refuse(path, "unknown-form")
    walk.write(path, "code-execution", [DIRECT])


def _direct_caller(walk: PolicyWalk, value: Any, path: Path) -> None:
    """`caller` of a call in the history: code that a provider ran calls nothing here."""
    if value is not None and not (isinstance(value, dict) and cast("Json", value).get("type") == DIRECT):
        walk.refuse(path, "provider-history")
    elif value is not None:
        _DIRECT_CALLER(walk, value, path)


_DIRECT_CALLER = ObjectRule({"type": KIND})
direct_only = CustomRule(_direct_only)
direct_caller = CustomRule(_direct_caller, _DIRECT_CALLER)


def rule_of(kinds: VariantRule, kind: object) -> str | None:
    """The rule that keeps tools of this kind out, or None."""
    check = kinds.of(kind)
    if check is unknown_form:
        return "unknown-form"
    return check.rule if isinstance(check, StripRule | RefuseRule) else None


def tools_of(kinds: VariantRule) -> ListRule:
    """A request's own tools, which go when none of them is left."""
    return ListRule(kinds, when_empty="drop")


class ToolChoiceRule:
    """`tool_choice` of OpenAI's and Anthropic's forms. `names` are kinds of choice that name a
    tool, and how to find the name.
    """

    def __init__(
        self, kinds: VariantRule, *, key: str = "tool_choice", words: frozenset[str] = frozenset()
    ) -> None:
        self.kinds = kinds
        self.key = key
        self.words = words

    def __call__(self, walk: PolicyWalk, top: Json) -> None:
        choice = top.get(self.key)
        if choice is None:
            return
        here: Path = (None, self.key)
        if isinstance(choice, dict):
            self._judge(walk, cast("Json", choice), here)
        if any(edit.path == (None, "tools") for edit in walk.edits):
            walk.strip(here, next(iter(walk.lost.values()), "unknown-tool"))

    def _judge(self, walk: PolicyWalk, choice: Json, path: Path) -> None:
        if choice.get("type") != "allowed_tools":
            if (rule := self._forbids(walk, choice)) is not None:
                walk.refuse(path, rule)
            return
        holder, where = choice, path
        if isinstance(choice.get("allowed_tools"), dict):
            holder, where = choice["allowed_tools"], (path, "allowed_tools")
        listed: Any = holder.get("tools")
        if not isinstance(listed, list):
            walk.refuse(where, "unknown-form")
            return
        self._filter(walk, cast("list[Any]", cast("object", listed)), (where, "tools"), path)

    def _filter(self, walk: PolicyWalk, entries: list[Any], where: Path, path: Path) -> None:
        """The entries that are left. A choice of none would read as a choice of all, so that it is
        refused.
        """
        left, last = len(entries), ""
        for index, entry in enumerate(entries):
            rule = self._forbids(walk, cast("Json", entry)) if isinstance(entry, dict) else "unknown-form"
            if rule is not None and not walk.open(rule):
                walk.strip((where, index), rule)
                left, last = left - 1, rule
        if entries and not left:
            walk.refuse(path, last)

    def _forbids(self, walk: PolicyWalk, choice: Json) -> str | None:
        """The rule by which what is chosen is gone."""
        kind, name = choice.get("type"), name_of(choice)
        if name and name in walk.lost:
            return walk.lost[name]
        if kind is None:
            return "unknown-tool"
        return None if isinstance(kind, str) and kind in self.words else rule_of(self.kinds, kind)


def of(*tables: dict[str, ValueRule]) -> dict[str, ValueRule]:
    """Tables joined; a later one's members hide an earlier one's."""
    return {key: check for table in tables for key, check in table.items()}


def all_by(names: str, check: ValueRule) -> dict[str, ValueRule]:
    """Members that are judged alike."""
    return dict.fromkeys(names.split(), check)
