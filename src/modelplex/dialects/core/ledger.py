"""What a writer takes of a request, and the report of what it does not take.

A writer takes each leaf of a ChatRequest by name, and each tool with the members that it writes.
`settle` reports what nobody took, so that a member which a writer does not know is never lost in
silence. Reports name the place in the client's body, which the reader recorded in
`ChatRequest.paths`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Any, Literal, cast

import msgspec

from modelplex.core.errors import Unsupported
from modelplex.core.request import (
    AnyTool,
    Change,
    ChatRequest,
    CompletionRequest,
    FreeformTool,
    HostedTool,
    ModelFacts,
    ReasoningOptions,
    ResponseFormat,
    Sampling,
    Tool,
)
from modelplex.dialects.core.members import PRESENCE, is_empty

UNKNOWN_MODEL = ModelFacts()
STRUCTURE = frozenset(
    "dialect model messages prompts tools include_usage old_functions extra paths changes".split()
)
"""Members of a request that are no leaves: every writer needs them, `tools` and `extra` are
reported one by one, and every provider reports usage.
"""
GROUPS: dict[str, type[msgspec.Struct]] = {
    "sampling": Sampling,
    "reasoning": ReasoningOptions,
    "format": ResponseFormat,
}
"""Members that are structs: their members are the leaves ("sampling.top_k")."""
INERT: dict[str, frozenset[object]] = {
    "sampling.min_p": frozenset({0}),
    "sampling.presence_penalty": frozenset({0}),
    "sampling.frequency_penalty": frozenset({0}),
    "sampling.top_logprobs": frozenset({0}),
    "format.kind": frozenset({"text"}),
    "reasoning.mode": frozenset({"adaptive"}),
    "tier": frozenset({"auto", "default", "standard"}),
    "parallel": frozenset({True}),
    "tools.strict": frozenset({False}),
}
"""Values that ask for what happens anyway: leaving them out is no loss."""
NO_PARAMETER = "this provider has no such parameter"
NO_TOOL_MEMBER = "tools have no such member here"
TOOL_STRUCTURE = frozenset({"path", "members", "name", "loaded"})
"""Members of a tool that are no leaves."""

Op = Literal["drop", "clamp", "move", "rename", "lower", "add"]


class Ledger:
    """The leaves of one request while they are written.

    changes  the report so far
    open     leaves that were given and not yet taken
    """

    def __init__(self, request: ChatRequest | CompletionRequest) -> None:
        self.dialect = request.dialect
        self.changes: list[Change] = list(request.changes)
        self.open: dict[str, Any] = _given(request)
        self._given = self.open.copy()
        self._paths = request.paths
        self._extra = request.extra

    def __repr__(self) -> str:
        return f"<Ledger open {sorted(self.open)}, {len(self.changes)} changes>"

    def take(self, leaf: str) -> Any:
        """The value of this leaf ("max_tokens", "sampling.top_k"), which counts as written from now
        on. Its default where it is not set. Raises KeyError for a leaf that there is not.
        """
        default = DEFAULTS[leaf]
        self.open.pop(leaf, None)
        return self._given.get(leaf, default)

    def take_limit(self, facts: ModelFacts) -> int | None:
        """The limit of output tokens, at most what the model takes where that is known."""
        given: int | None = self.take("max_tokens")
        if given is None or given <= facts.max_output or facts == UNKNOWN_MODEL:
            return given
        self.clamp("max_tokens", f"this model gives at most {facts.max_output} tokens")
        return facts.max_output

    def drop_sampling(self, facts: ModelFacts, effort: str | None) -> None:
        """Drop what a model that reasons refuses, unless its reasoning is turned off."""
        if not facts.sampling and effort != "none":
            for leaf in ("sampling.temperature", "sampling.top_p"):
                self.drop_if_set(leaf, "a model that reasons takes no sampling parameters")

    def take_mode(self) -> None:
        """Take the mode of thinking, where an effort or a switch stands for it."""
        if self.take("reasoning.mode") == "between_tools":
            self.lower("reasoning.mode", "the model thinks before calls too, not between them alone")

    def take_all(self, *leaves: str) -> None:
        """Count these leaves as written: the writer reads them from their group."""
        for leaf in leaves:
            self.open.pop(leaf, None)

    def take_extra(self) -> Mapping[str, msgspec.Raw]:
        """The members without a leaf, which count as written from now on."""
        extra, self._extra = self._extra, {}
        return extra

    def change(self, op: Op, path: str, reason: str) -> None:
        """Report a change at a place that is no leaf."""
        self.changes.append(Change(op, path, reason))

    def report(self, op: Op, leaf: str, reason: str, *, member: str = "") -> None:
        """Report a change at this leaf or group, or at the `member` inside it: it counts as
        taken.
        """
        prefix = f"{leaf}."
        for name in [each for each in self.open if each == leaf or each.startswith(prefix)]:
            del self.open[name]
        self.changes.append(Change(op, self.path(leaf) + member, reason))

    def drop(self, leaf: str, reason: str, *, member: str = "") -> None:
        self.report("drop", leaf, reason, member=member)

    def lower(self, leaf: str, reason: str, *, member: str = "") -> None:
        self.report("lower", leaf, reason, member=member)

    def clamp(self, leaf: str, reason: str, *, member: str = "") -> None:
        self.report("clamp", leaf, reason, member=member)

    def drop_if_set(self, leaf: str, reason: str) -> None:
        """Drop the leaf where leaving it out is a loss."""
        if leaf in self.open:
            self.drop(leaf, reason)

    def path(self, leaf: str) -> str:
        """Where the leaf stands in the client's body."""
        return client_path(self._paths, leaf)

    def report_tool(
        self, tool: Tool | FreeformTool, *, takes: frozenset[str], reasons: Mapping[str, str] = {}
    ) -> None:
        """Report the members of a tool that the writer does not take: leaves that are not in
        `takes`, and "extra" unless it is.
        """
        leaves, get, defaults = _tool_leaves(type(tool), takes)
        if (values := get(tool)) == defaults:
            return
        for leaf, value, default in zip(leaves, values, defaults, strict=False):
            if leaf == "extra":
                for name in value:
                    self.changes.append(Change("drop", f"{tool.path}.{name}", NO_TOOL_MEMBER))
            elif value != default and value not in INERT.get(f"tools.{leaf}", ()):
                reason = reasons.get(leaf, NO_TOOL_MEMBER)
                self.changes.append(Change("drop", tool_path(tool, leaf), reason))

    def settle(self, reasons: Mapping[str, str] = {}) -> tuple[Change, ...]:
        """The whole report: what nobody took is dropped, for these reasons."""
        for leaf, value in [*self.open.items()]:
            if is_loss(leaf, value):
                self.drop(leaf, reasons.get(leaf, NO_PARAMETER))
        for name, raw in self._extra.items():
            if name in PRESENCE or not is_empty(raw):
                self.changes.append(Change("drop", self._paths.get(name, name), NO_PARAMETER))
        return tuple(self.changes)


def check_one_choice(ledger: Ledger) -> None:
    """Raises Unsupported for a request of several choices."""
    if ledger.take("sampling.n") > 1:
        raise Unsupported(
            "This provider gives one choice a response; send `n` requests instead.",
            param=ledger.path("sampling.n"),
        )


def tool_path(tool: AnyTool, leaf: str) -> str:
    """Where a leaf of a tool stands in the client's body."""
    members: Mapping[str, str] = {} if isinstance(tool, HostedTool) else tool.members
    return f"{tool.path}.{members.get(leaf, leaf)}"


def client_path(paths: Mapping[str, str], leaf: str) -> str:
    """Where the leaf stands in the client's body: by its own row, by that of its group, or under
    the leaf's own name.
    """
    if (known := paths.get(leaf)) is not None:
        return known
    group, _, member = leaf.rpartition(".")
    if group and (known := paths.get(group)) is not None:
        return f"{known}.{member}"
    return member


def is_loss(leaf: str, value: Any) -> bool:
    """Whether leaving this value out is a loss."""
    if isinstance(value, msgspec.Raw):
        return leaf in PRESENCE or not is_empty(value)
    return leaf not in INERT or value not in INERT[leaf]


def _given(request: msgspec.Struct) -> dict[str, Any]:
    """Each leaf that is set, in the order of the definition."""
    names, get, defaults = _leaves(type(request))
    given: dict[str, Any] = {}
    for name, value, default in zip(names, get(request), defaults, strict=False):
        if value is None or value == default:
            continue
        if name not in GROUPS:
            given[name] = value
            continue
        inner, get_inner, usual = _leaves(cast("msgspec.Struct", value).__class__, f"{name}.")
        given |= {
            leaf: member
            for leaf, member, preset in zip(inner, get_inner(value), usual, strict=False)
            if member is not None and member != preset
        }
    return given


Leaves = tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]], tuple[Any, ...]]
"""Names of members; a function that gets their values, and the class twice; their defaults, and the
class twice.
"""


@lru_cache(maxsize=32)
def _leaves(struct: type[msgspec.Struct], prefix: str = "") -> Leaves:
    """The leaves of a request or group. To find them takes longer than to write a request."""
    return _members(struct, STRUCTURE, prefix)


@lru_cache(maxsize=64)
def _tool_leaves(struct: type[msgspec.Struct], takes: frozenset[str]) -> Leaves:
    """The leaves of a tool without those that a writer takes."""
    return _members(struct, takes | TOOL_STRUCTURE, "")


def _members(struct: type[msgspec.Struct], without: frozenset[str], prefix: str) -> Leaves:
    fields = [field for field in msgspec.structs.fields(struct) if field.name not in without]
    defaults = tuple(
        field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        for field in fields
    )
    # "__class__" twice makes `attrgetter` return a tuple even for a single name, or none.
    get: Callable[[Any], tuple[Any, ...]] = attrgetter(
        *(field.name for field in fields), "__class__", "__class__"
    )
    return tuple(prefix + field.name for field in fields), get, (*defaults, struct, struct)


DEFAULTS: dict[str, Any] = {
    name: None if default is msgspec.NODEFAULT else default
    for struct, prefix in (
        (ChatRequest, ""),
        (CompletionRequest, ""),
        *((group, f"{name}.") for name, group in GROUPS.items()),
    )
    for name, default in zip(*_leaves(struct, prefix)[::2], strict=False)
}
"""Each leaf that there is, and what it is where it is not set."""
