"""What a writer takes of a request, and the report of what it does not take.

A writer takes each leaf of a ChatRequest by name. `settle` reports every leaf that nobody took, so
that a field which a writer does not know is never lost in silence. Reports name the place in the
client's body, which the reader of the request recorded in `ChatRequest.paths`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal

import msgspec

from modelplex.core.request import (
    Change,
    ChatRequest,
    CompletionRequest,
    Message,
    ReasoningOptions,
    ResponseFormat,
    Sampling,
    ToolCallPart,
)
from modelplex.dialects.core.members import is_empty

STRUCTURE = frozenset(
    "dialect model messages prompts suffix tools namespaces choice stream include_usage "
    "old_functions user_field extra paths".split()
)
"""Members of a request that are no options: every writer needs them, or they are settled
elsewhere.
"""
GROUPS = (Sampling, ReasoningOptions, ResponseFormat)
"""Members that are structs: their members are the leaves ("sampling.top_k")."""
INERT: dict[str, frozenset[object]] = {
    "sampling.min_p": frozenset({0}),
    "sampling.presence_penalty": frozenset({0}),
    "sampling.frequency_penalty": frozenset({0}),
    "sampling.top_logprobs": frozenset({0}),
    "format.kind": frozenset({"text"}),
    "tier": frozenset({"auto", "default", "standard"}),
}
"""Values that ask for what happens anyway: leaving them out is no loss."""
NO_PARAMETER = "this provider has no such parameter"

Op = Literal["drop", "clamp", "move", "rename", "lower", "add"]


class Ledger:
    """The options of one request while they are written. `changes` is the report so far."""

    def __init__(self, request: ChatRequest | CompletionRequest, changes: Iterable[Change] = ()) -> None:
        self.changes: list[Change] = list(changes)
        self._request = request
        self._paths = request.paths if isinstance(request, ChatRequest) else {}
        self._open: dict[str, Any] = dict(_leaves(request))

    def __repr__(self) -> str:
        return f"<Ledger open {sorted(self._open)}, {len(self.changes)} changes>"

    def take(self, leaf: str) -> Any:
        """The value of this leaf ("max_tokens", "sampling.top_k"), which counts as written from now
        on. None where it is not set. Raises AttributeError for a leaf that there is not.
        """
        self._open.pop(leaf, None)
        value: Any = self._request
        for name in leaf.split("."):
            value = None if value is None else getattr(value, name)
        return value

    def take_all(self, *leaves: str) -> None:
        """Count these leaves as written: the writer reads them from their group."""
        for leaf in leaves:
            self.take(leaf)

    def report(self, op: Op, leaf: str, reason: str, *, member: str = "") -> None:
        """Report a change at this leaf or group, or at the `member` inside it: it counts as
        taken.
        """
        for name in [each for each in self._open if each == leaf or each.startswith(f"{leaf}.")]:
            del self._open[name]
        self.changes.append(Change(op, self.path(leaf) + member, reason))

    def drop(self, leaf: str, reason: str, *, member: str = "") -> None:
        self.report("drop", leaf, reason, member=member)

    def lower(self, leaf: str, reason: str, *, member: str = "") -> None:
        self.report("lower", leaf, reason, member=member)

    def clamp(self, leaf: str, reason: str, *, member: str = "") -> None:
        self.report("clamp", leaf, reason, member=member)

    def drop_if_set(self, leaf: str, reason: str) -> None:
        """Drop the leaf where leaving it out is a loss."""
        if leaf in self._open:
            self.drop(leaf, reason)

    def path(self, leaf: str) -> str:
        """Where the leaf stands in the client's body."""
        return client_path(self._paths, leaf)

    def settle(self) -> tuple[Change, ...]:
        """The whole report: what nobody took is dropped."""
        for leaf in list(self._open):
            self.drop(leaf, NO_PARAMETER)
        return tuple(
            msgspec.structs.replace(change, path=client_place(self._paths, change.path))
            for change in self.changes
        )


def part_paths(messages: Iterable[Message]) -> dict[str, str]:
    """Where the tool calls of messages stand that have them in `tool_calls`."""
    paths: dict[str, str] = {}
    for message in messages:
        calls = [n for n, part in enumerate(message.parts) if isinstance(part, ToolCallPart)]
        for place, n in enumerate(calls):
            paths[f"{message.path}.content[{n}]"] = f"{message.path}.tool_calls[{place}]"
    return paths


def client_place(paths: Mapping[str, str], path: str) -> str:
    """Where a part of a message stands, whose path begins with the longest known one."""
    head, tail = path, ""
    while head:
        if (known := paths.get(head)) is not None and ("[" in path or "." in head):
            return known + tail
        cut = max(head.rfind("["), head.rfind("."))
        if cut < 0:
            break
        head, tail = head[:cut], head[cut:] + tail
    return path


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


def _leaves(request: ChatRequest | CompletionRequest) -> Iterator[tuple[str, Any]]:
    """Each leaf whose loss would be one, in the order of the definition."""
    for name, value, default in _members(request):
        if name in STRUCTURE:
            continue
        if isinstance(value, GROUPS):
            for inner, told, usual in _members(value):
                if _says_something(f"{name}.{inner}", told, usual):
                    yield f"{name}.{inner}", told
        elif _says_something(name, value, default):
            yield name, value


def _members(struct: msgspec.Struct) -> Iterator[tuple[str, Any, Any]]:
    for name, default in _defaults(type(struct)):
        yield name, getattr(struct, name), default


@lru_cache(maxsize=32)
def _defaults(struct: type[msgspec.Struct]) -> tuple[tuple[str, Any], ...]:
    """Names and defaults of the fields. To find them takes longer than to write a request."""
    return tuple((field.name, field.default) for field in msgspec.structs.fields(struct))


def _says_something(leaf: str, value: Any, usual: Any) -> bool:
    if value is None or value == usual:
        return False
    if isinstance(value, msgspec.Raw):
        return not is_empty(value)
    return value != () and value not in INERT.get(leaf, ())
