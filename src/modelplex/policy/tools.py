"""Rules for tools, shared by the dialects: stripped tools are remembered, and a `tool_choice` that
forces one is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from modelplex.policy.accepted_types import Members, variant_of
from modelplex.policy.containers import ListRule, ObjectRule, VariantRule
from modelplex.policy.leaves import TYPE
from modelplex.policy.path import Path
from modelplex.policy.value_rules import RefuseRule, StripRule
from modelplex.policy.walk import UNKNOWN_FORM, CustomRule, Json, PolicyWalk, ValueRule

DIRECT = "direct"
FinalCheck = Callable[[PolicyWalk, Mapping[str, Any]], None]
"""A check that runs after all members: of a choice among tools, for instance, which depends on the
tools that were stripped.
"""


class StripToolRule(StripRule):
    """Strips a tool and remembers its name."""

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not walk.allows(self.rule):
            walk.stripped_tools[tool_name(cast("Json", value))] = self.rule
        super().__call__(walk, value, path)


def tool_name(tool: Json) -> str:
    """The name of a tool, or of the tool that a choice names; else ""."""
    for holder in (tool, tool.get("function"), tool.get("custom")):
        if isinstance(holder, dict) and isinstance(name := cast("Json", holder).get("name"), str):
            return name
    return ""


UNKNOWN_TOOL = StripToolRule("unknown-tool")


def _direct_only(walk: PolicyWalk, value: Any, path: Path) -> None:
    if value is None or value == [DIRECT] or walk.allows("code-execution"):
        return
    if not isinstance(value, list):
        walk.refuse(path, "unknown-form")
    walk.overwrite(path, "code-execution", [DIRECT])


def _direct_caller(walk: PolicyWalk, value: Any, path: Path) -> None:
    if value is not None and not (isinstance(value, dict) and cast("Json", value).get("type") == DIRECT):
        walk.refuse(path, "provider-history")
    elif value is not None:
        _CALLER(walk, value, path)


_CALLER = ObjectRule({"type": TYPE})
DIRECT_ONLY = CustomRule(_direct_only)
"""`allowed_callers` of a tool: the model only, and no code that the provider runs."""
DIRECT_CALLER = CustomRule(
    _direct_caller, _CALLER, permits=variant_of({DIRECT: Members({})}, discriminator="type")
)
"""`caller` of a call in the history: code that a provider ran cannot have called a tool here."""


def blocking_rule(variants: VariantRule, kind: object) -> str | None:
    """The rule that strips or refuses tools of this type, or None."""
    rule = variants.rule_for(kind)
    if rule is UNKNOWN_FORM:
        return "unknown-form"
    return rule.rule if isinstance(rule, StripRule | RefuseRule) else None


def tool_list(variants: VariantRule) -> ListRule:
    """The tools of a request. The list is removed if none of them is left."""
    return ListRule(variants, when_empty="drop")


class ToolChoiceCheck:
    """`tool_choice` of OpenAI and Anthropic. `other_types` are types of a choice that are no type
    of a tool.
    """

    def __init__(
        self, variants: VariantRule, *, key: str = "tool_choice", other_types: frozenset[str] = frozenset()
    ) -> None:
        self.variants = variants
        self.key = key
        self.other_types = other_types

    def __call__(self, walk: PolicyWalk, top: Mapping[str, Any]) -> None:
        choice = top.get(self.key)
        if choice is None:
            return
        here: Path = (None, self.key)
        if isinstance(choice, dict):
            self._check(walk, cast("Json", choice), here)
        if any(edit.path == (None, "tools") for edit in walk.edits):
            walk.strip(here, next(iter(walk.stripped_tools.values()), "unknown-tool"))

    def _check(self, walk: PolicyWalk, choice: Json, path: Path) -> None:
        if choice.get("type") != "allowed_tools":
            if (rule := self._blocked_by(walk, choice)) is not None:
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
        """Strip the entries that name a blocked tool. A choice without entries would allow all
        tools, so it is refused if none is left.
        """
        left, last = len(entries), ""
        for index, entry in enumerate(entries):
            rule = self._blocked_by(walk, cast("Json", entry)) if isinstance(entry, dict) else "unknown-form"
            if rule is not None and not walk.allows(rule):
                walk.strip((where, index), rule)
                left, last = left - 1, rule
        if entries and not left:
            walk.refuse(path, last)

    def _blocked_by(self, walk: PolicyWalk, choice: Json) -> str | None:
        """The rule that blocks the chosen tool, or None."""
        kind, name = choice.get("type"), tool_name(choice)
        if name and name in walk.stripped_tools:
            return walk.stripped_tools[name]
        if kind is None:
            return "unknown-tool"
        if isinstance(kind, str) and kind in self.other_types:
            return None
        return blocking_rule(self.variants, kind)


def merge(*tables: dict[str, ValueRule]) -> dict[str, ValueRule]:
    """Tables joined; of a member in several the last one's rule."""
    return {key: rule for table in tables for key, rule in table.items()}


def each_field(names: str, rule: ValueRule) -> dict[str, ValueRule]:
    """One rule for several members, whose names are separated by spaces."""
    return dict.fromkeys(names.split(), rule)
