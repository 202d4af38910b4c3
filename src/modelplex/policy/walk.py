"""The walk over a body by its dialect's policy table: its state, and the type of a table's rules.

A table has a ValueRule for every member that passes; no rule accepts arbitrary values. A rule does
not modify the body: it records edits, which `splice` applies, or raises PolicyRefusal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from modelplex.policy.accepted_types import Members, Shape, Shapes
from modelplex.policy.bounds import Limit, limit_for
from modelplex.policy.path import Path
from modelplex.policy.rules import BoundFault
from modelplex.policy.verdict import Facts

Json = dict[str, Any]
RuleFunction = Callable[["PolicyWalk", Any, Path], None]
Children = Iterable[tuple[str, "ValueRule"]]
"""The rules that a rule applies to parts of its value, each with the step to that part. Tests use
them to visit every table.
"""
MAX_EDITS = 10_000
"""Values that may be stripped from one body. An agent may need one edit in each message of a long
session. An edit takes about 10 microseconds, so that millions would block the event loop.
"""


class _Removed:
    """The value of an edit that removes a member."""


REMOVED = _Removed()


class Edit(msgspec.Struct, frozen=True):
    """`rule` is "" for an edit that follows from another one and is not reported."""

    path: Path
    rule: str
    value: Any = REMOVED


class PolicyRefusal(Exception):
    """`fault` says which bound of an allowed rule is not met, "" if the rule itself refuses."""

    def __init__(self, rule: str, path: Path, fault: BoundFault = "") -> None:
        super().__init__(rule)
        self.rule = rule
        self.path = path
        self.fault: BoundFault = fault


class PolicyWalk:
    """The state of one walk.

    edits           what to change in the body, in the order in which it was found
    counted_rules   rules with a tool whose uses are limited by a member of the tool
    max_tool_calls  the limit to write at the top of a body, for forms that limit uses there
    stripped_tools  tool name -> the rule that stripped the tool
    """

    __slots__ = ("_limits", "counted_rules", "edits", "facts", "max_tool_calls", "stripped_tools")

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.edits: list[Edit] = []
        self._limits: dict[str, Limit | None] = {}
        self.counted_rules: set[str] = set()
        self.max_tool_calls: int | None = None
        self.stripped_tools: dict[str, str] = {}

    def allows(self, rule: str) -> bool:
        return rule in self.facts.allowed

    def limit(self, rule: str) -> Limit | None:
        """The bounds of an allowed rule; None if it has none."""
        if not self.facts.bounds:
            return None
        if rule not in self._limits:
            self._limits[rule] = limit_for(self.facts.bounds, rule)
        return self._limits[rule]

    def strip(self, path: Path, rule: str) -> None:
        self.overwrite(path, rule, REMOVED)

    def overwrite(self, path: Path, rule: str, value: Any) -> None:
        """Raises PolicyRefusal above MAX_EDITS."""
        if len(self.edits) >= MAX_EDITS:
            raise PolicyRefusal(rule, path, "too-many-here")
        self.edits.append(Edit(path, rule, value))

    def remove(self, path: Path) -> None:
        """Remove a value that an earlier edit left empty. It is not reported."""
        self.edits.append(Edit(path, ""))

    def refuse(self, path: Path, rule: str) -> None:
        """Raises PolicyRefusal unless the rule is allowed."""
        if rule not in self.facts.allowed:
            raise PolicyRefusal(rule, path)

    def is_removed(self, path: Path, since: int) -> bool:
        """Whether one of `edits[since:]` removes this entry. `path` is the object that was passed
        to the rule of the entry.
        """
        return any(edit.path is path and edit.value is REMOVED for edit in self.edits[since:])


class ValueRule:
    """The type of a value. The walk does not call the rule for a value whose Python type is in
    `allowed_types`, nor for a string in `allowed_words`. A rule that `takes_large_lists` may get a
    LargeList in place of a list.
    """

    __slots__ = ()
    allowed_types: frozenset[type] = frozenset()
    allowed_words: frozenset[str] = frozenset()
    takes_large_lists: bool = False

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        raise NotImplementedError

    def children(self) -> Children:
        return ()

    def shape(self, shapes: Shapes) -> Shape | None:
        """The type of values that pass without a walk (accepted_types.py), or None. Called by
        `shapes.of`.
        """
        del shapes
        return None

    def member_shapes(self, shapes: Shapes) -> Members | None:
        """The shapes of an object's members, where it may be a variant."""
        del shapes
        return None


class CustomRule(ValueRule):
    """A function as a rule. `targets` are the rules that the function calls, `permits` is the shape
    of some values that it permits.
    """

    __slots__ = ("function", "permits", "targets")

    def __init__(self, function: RuleFunction, *targets: ValueRule, permits: Shape | None = None) -> None:
        self.function = function
        self.targets = targets
        self.permits = permits

    def __repr__(self) -> str:
        return f"CustomRule({self.function.__name__})"

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        self.function(walk, value, path)

    def children(self) -> Children:
        return ((self.function.__name__, rule) for rule in self.targets)

    def shape(self, shapes: Shapes) -> Shape | None:
        del shapes
        return self.permits


class DeferredRule(ValueRule):
    """A rule that is defined later, for recursive tables."""

    __slots__ = ("find",)

    def __init__(self, find: Callable[[], ValueRule]) -> None:
        self.find = find

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        self.find()(walk, value, path)

    def children(self) -> Children:
        return (("", self.find()),)

    def shape(self, shapes: Shapes) -> Shape | None:
        return shapes.of(self.find())


class AnyValueRule(ValueRule):
    """Any value. Only for the inside of a rule, where it is reached if the operator allowed that
    rule.
    """

    __slots__ = ()
    allowed_types = frozenset((dict, list, str, int, float, bool, type(None)))

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        walk.refuse(path, "unknown-form")


def _unknown_form(walk: PolicyWalk, _: Any, path: Path) -> None:
    walk.refuse(path, "unknown-form")


ANY_VALUE = AnyValueRule()
UNKNOWN_FORM = CustomRule(_unknown_form)
