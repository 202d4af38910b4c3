"""Search mode: three tools instead of hundreds. One finds tools, one shows definitions, one calls.

PURE. The three definitions never change. A tool that the caller may not see is not in the index, so
the policy is that of direct calls.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from modelplex.dialects.core.json import as_object
from modelplex.mcp.constants import INVALID_PARAMS, Json, McpReply

SEARCH: Final = "search_tools"
DETAILS: Final = "tool_details"
CALL: Final = "call_tool"
NAMES: Final = (SEARCH, DETAILS, CALL)

FOUND: Final = 10
"""Default number of tools in a search result."""
MAX_FOUND: Final = 50
MAX_DETAILS: Final = 20
"""Definitions at once: this mode keeps them out of the context."""
MAX_QUERY: Final = 1000
"""Characters of a query that are read."""
DESCRIPTION_LENGTH: Final = 300
"""Characters of a description in a search result; `tool_details` has the whole."""

_K1: Final = 1.2
_B: Final = 0.75
"""BM25's usual constants: how soon a repeated word stops counting, and the penalty of
long texts.
"""
_WEIGHTS: Final = (("name", 4), ("title", 3), ("description", 1), ("arguments", 1))
"""The weight of a word by its place: a tool's name says best what it does."""

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD: Final = re.compile(r"[^\W_]+")

DEFINITIONS: Final[tuple[Json, ...]] = (
    {
        "name": SEARCH,
        "title": "Search tools",
        "description": "Finds tools by what they do. The result names the tools that fit best, each with a short description; "
        f"then {DETAILS} shows their arguments and {CALL} calls one.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "What the tool should do, in a few words."},
                "limit": {"type": "integer", "minimum": 1, "maximum": MAX_FOUND, "default": FOUND},
            },
            "required": ["query"],
            "additionalProperties": False,
        },
        "annotations": {"readOnlyHint": True, "openWorldHint": False},
    },
    {
        "name": DETAILS,
        "title": "Show tools",
        "description": "Shows the whole definitions of tools: what they do, their arguments, what they give.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "names": {
                    "type": "array",
                    "items": {"type": "string"},
                    "minItems": 1,
                    "maxItems": MAX_DETAILS,
                    "description": f"Names as {SEARCH} gives them.",
                }
            },
            "required": ["names"],
            "additionalProperties": False,
        },
        "annotations": {"readOnlyHint": True, "openWorldHint": False},
    },
    {
        "name": CALL,
        "title": "Call a tool",
        "description": "Calls a tool with arguments of the form that its definition asks for, and gives its result.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": f"A name as {SEARCH} gives it."},
                "arguments": {"type": "object", "description": "The arguments of the tool."},
            },
            "required": ["name"],
            "additionalProperties": False,
        },
    },
)
"""tools/list in this mode, for every caller."""


class InnerCall(msgspec.Struct, frozen=True):
    """The call inside a `call_tool`. Its result goes back unchanged."""

    name: str
    arguments: Json


def is_enabled(search: str, *, above: int, tools: int) -> bool:
    """Whether `[mcp] search` enables this mode for so many tools."""
    return search == "on" or (search == "auto" and tools > above)


def tokenize(text: str) -> list[str]:
    """The words of names and sentences: `getUserName`, `get_user_name` and "Get user names" have
    the same ones. Drops a plural's s.
    """
    parted = _CAMEL.sub(" ", unicodedata.normalize("NFKC", text))
    return [_stem(word.casefold()) for word in _WORD.findall(parted)]


def _stem(word: str) -> str:
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        return word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else word[:-1]
    return word


class ToolIndex:
    """The searchable tools of one caller."""

    def __init__(self, tools: Sequence[Json]) -> None:
        self._tools: dict[str, Json] = {tool["name"]: tool for tool in tools}
        counts = {name: _counted(tool) for name, tool in self._tools.items()}
        self._length = {name: count.total() for name, count in counts.items()}
        self._average = sum(self._length.values()) / max(len(counts), 1) or 1.0
        self._holders: dict[str, dict[str, int]] = {}
        for name, count in counts.items():
            for word, times in count.items():
                self._holders.setdefault(word, {})[name] = times

    def __repr__(self) -> str:
        return f"<ToolIndex of {len(self._tools)} tools, {len(self._holders)} words>"

    def find(self, query: str, *, limit: int = FOUND) -> list[str]:
        """Names by rank (BM25), then in the order of the list. An empty query gives the first of
        the list.
        """
        tokens = dict.fromkeys(tokenize(query[:MAX_QUERY]))
        if not tokens:
            return list(self._tools)[:limit]
        scores = dict.fromkeys(self._tools, 0.0)
        for word in tokens:
            holders = self._holders.get(word, {})
            rarity = math.log(1 + (len(self._tools) - len(holders) + 0.5) / (len(holders) + 0.5))
            for name, times in holders.items():
                norm = _K1 * (1 - _B + _B * self._length[name] / self._average)
                scores[name] += rarity * times * (_K1 + 1) / (times + norm)
        found = [name for name, score in scores.items() if score > 0]
        return sorted(found, key=lambda name: -scores[name])[:limit]  # the sort is stable

    def answer(self, name: str, arguments: object) -> McpReply | InnerCall:
        """Answer a call of one of the three tools, or return the inner call to make.

        Wrong arguments give a result with `isError`, for the model to correct; an unknown inner
        tool gives -32602.
        """
        members = as_object(arguments) or {}
        if name == SEARCH:
            return self._search(members)
        if name == DETAILS:
            return self._details(members)
        inner, inner_arguments = members.get("name"), members.get("arguments", {})
        if not isinstance(inner, str) or not isinstance(inner_arguments, dict):
            return _bad_arguments(f'{CALL} takes {{"name": "...", "arguments": {{...}}}}.')
        if inner not in self._tools:
            return McpReply.failed(INVALID_PARAMS, f"Unknown tool: {inner[:100]}")
        return InnerCall(inner, cast("Json", inner_arguments))

    def _search(self, arguments: Mapping[str, Any]) -> McpReply:
        query, limit = arguments.get("query"), arguments.get("limit", FOUND)
        if not isinstance(query, str) or isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            return _bad_arguments(f'{SEARCH} takes {{"query": "...", "limit": {FOUND}}}.')
        found = [_summary(self._tools[name]) for name in self.find(query, limit=min(limit, MAX_FOUND))]
        return _structured({"tools": found, "total": len(self._tools)})

    def _details(self, arguments: Mapping[str, Any]) -> McpReply:
        names = arguments.get("names")
        if (
            not isinstance(names, list)
            or not names
            or not all(isinstance(name, str) for name in cast("list[object]", names))
        ):
            return _bad_arguments(f'{DETAILS} takes {{"names": ["..."]}}.')
        requested = cast("list[str]", names)
        if len(requested) > MAX_DETAILS:
            return _bad_arguments(f"{DETAILS} shows at most {MAX_DETAILS} tools at once.")
        unknown = [name for name in requested if name not in self._tools]
        if unknown:
            return McpReply.failed(INVALID_PARAMS, f"Unknown tool: {unknown[0][:100]}")
        return _structured({"tools": [self._tools[name] for name in dict.fromkeys(requested)]})


def _counted(tool: Json) -> Counter[str]:
    texts = {
        "name": str(tool.get("name", "")),
        "title": str(tool.get("title") or _annotated_title(tool)),
        "description": str(tool.get("description") or ""),
        "arguments": " ".join(_arguments(tool)),
    }
    count: Counter[str] = Counter()
    for field, weight in _WEIGHTS:
        for word, times in Counter(tokenize(texts[field])).items():
            count[word] += weight * times
    return count


def _annotated_title(tool: Json) -> str:
    return str((as_object(tool.get("annotations")) or {}).get("title") or "")


def _arguments(tool: Json) -> Iterator[str]:
    schema = as_object(tool.get("inputSchema")) or {}
    yield from as_object(schema.get("properties")) or {}


def _summary(tool: Json) -> Json:
    description = str(tool.get("description") or "")
    cut = (
        description
        if len(description) <= DESCRIPTION_LENGTH
        else description[:DESCRIPTION_LENGTH].rstrip() + "..."
    )
    summary: Json = {"name": tool["name"], "description": cut}
    return {**summary, "title": tool["title"]} if isinstance(tool.get("title"), str) else summary


def _structured(content: Json) -> McpReply:
    text = msgspec.json.encode(content).decode()
    return McpReply(
        result={"content": [{"type": "text", "text": text}], "structuredContent": content, "isError": False}
    )


def _bad_arguments(sentence: str) -> McpReply:
    return McpReply(result={"content": [{"type": "text", "text": sentence}], "isError": True})
