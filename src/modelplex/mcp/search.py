"""Three tools in place of hundreds: one finds tools, one shows their definitions, one calls them.

PURE. Above it stands the hub, which gives it the tools that a caller may see and acts on the calls;
below it the words. The three definitions never change, and no call changes a list. What is not
given to it cannot be found, shown or called, so the policy is the one of direct calls.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from modelplex.mcp.constants import INVALID_PARAMS, Json, McpReply

SEARCH: Final = "search_tools"
DETAILS: Final = "tool_details"
CALL: Final = "call_tool"
NAMES: Final = (SEARCH, DETAILS, CALL)

FOUND: Final = 10
"""Tools that a search gives where the caller does not say how many."""
MOST_FOUND: Final = 50
MOST_DETAILS: Final = 20
"""Definitions at once: they are what this mode keeps out of the context."""
MOST_QUERY: Final = 1000
"""Characters of a query that are read."""
SHORT: Final = 300
"""Characters of a description in a search's result; the whole is for `tool_details`."""

_K1: Final = 1.2
_B: Final = 0.75
"""The usual constants of BM25: how soon a word that is repeated counts no more, and how much long
texts are held against.
"""
_WEIGHTS: Final = (("name", 4), ("title", 3), ("description", 1), ("arguments", 1))
"""How often a word counts by where it stands: a tool's name says best what it does."""

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
                "limit": {"type": "integer", "minimum": 1, "maximum": MOST_FOUND, "default": FOUND},
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
                    "maxItems": MOST_DETAILS,
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
"""What tools/list holds in this mode, for every caller and at every time."""


class InnerCall(msgspec.Struct, frozen=True):
    """What `call_tool` asks for. The inner result goes back unchanged."""

    name: str
    arguments: Json


def wanted(search: str, *, above: int, tools: int) -> bool:
    """Whether `[mcp] search` means this mode for so many tools."""
    return search == "on" or (search == "auto" and tools > above)


def words(text: str) -> list[str]:
    """The words of names and sentences alike: `getUserName`, `get_user_name` and "Get user names"
    share theirs. A plural's s is left out.
    """
    parted = _CAMEL.sub(" ", unicodedata.normalize("NFKC", text))
    return [_stem(word.casefold()) for word in _WORD.findall(parted)]


def _stem(word: str) -> str:
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        return word[:-3] + "y" if word.endswith("ies") and len(word) > 4 else word[:-1]
    return word


class Index:
    """The tools that one caller may see, as tools/list would give them, ready to be searched. Build
    it once for each such list.
    """

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
        return f"<Index of {len(self._tools)} tools, {len(self._holders)} words>"

    def find(self, query: str, *, limit: int = FOUND) -> list[str]:
        """Names, best first (BM25); those that fit equally well in the order of the list. A query
        without words gives the first of the list.
        """
        asked = dict.fromkeys(words(query[:MOST_QUERY]))
        if not asked:
            return list(self._tools)[:limit]
        scores = dict.fromkeys(self._tools, 0.0)
        for word in asked:
            holders = self._holders.get(word, {})
            rarity = math.log(1 + (len(self._tools) - len(holders) + 0.5) / (len(holders) + 0.5))
            for name, times in holders.items():
                drag = _K1 * (1 - _B + _B * self._length[name] / self._average)
                scores[name] += rarity * times * (_K1 + 1) / (times + drag)
        found = [name for name, score in scores.items() if score > 0]
        return sorted(found, key=lambda name: -scores[name])[:limit]  # the sort is stable

    def answer(self, name: str, arguments: object) -> McpReply | InnerCall:
        """What a call of one of the three comes to: its Reply, or the Call that is to be made in
        its place.

        Arguments that do not fit are told in a result with `isError`, for the model to correct; an
        unknown name of an inner tool is -32602.
        """
        given = cast("Json", arguments) if isinstance(arguments, dict) else {}
        if name == SEARCH:
            return self._search(given)
        if name == DETAILS:
            return self._details(given)
        inner, inner_arguments = given.get("name"), given.get("arguments", {})
        if not isinstance(inner, str) or not isinstance(inner_arguments, dict):
            return _wrong(f'{CALL} takes {{"name": "...", "arguments": {{...}}}}.')
        if inner not in self._tools:
            return McpReply.failed(INVALID_PARAMS, f"Unknown tool: {inner[:100]}")
        return InnerCall(inner, cast("Json", inner_arguments))

    def _search(self, arguments: Mapping[str, Any]) -> McpReply:
        query, limit = arguments.get("query"), arguments.get("limit", FOUND)
        if not isinstance(query, str) or isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            return _wrong(f'{SEARCH} takes {{"query": "...", "limit": {FOUND}}}.')
        found = [_brief(self._tools[name]) for name in self.find(query, limit=min(limit, MOST_FOUND))]
        return _shown({"tools": found, "total": len(self._tools)})

    def _details(self, arguments: Mapping[str, Any]) -> McpReply:
        names = arguments.get("names")
        if (
            not isinstance(names, list)
            or not names
            or not all(isinstance(name, str) for name in cast("list[object]", names))
        ):
            return _wrong(f'{DETAILS} takes {{"names": ["..."]}}.')
        asked = cast("list[str]", names)
        if len(asked) > MOST_DETAILS:
            return _wrong(f"{DETAILS} shows at most {MOST_DETAILS} tools at once.")
        unknown = [name for name in asked if name not in self._tools]
        if unknown:
            return McpReply.failed(INVALID_PARAMS, f"Unknown tool: {unknown[0][:100]}")
        return _shown({"tools": [self._tools[name] for name in dict.fromkeys(asked)]})


def _counted(tool: Json) -> Counter[str]:
    texts = {
        "name": str(tool.get("name", "")),
        "title": str(tool.get("title") or _annotated_title(tool)),
        "description": str(tool.get("description") or ""),
        "arguments": " ".join(_arguments(tool)),
    }
    count: Counter[str] = Counter()
    for field, weight in _WEIGHTS:
        for word, times in Counter(words(texts[field])).items():
            count[word] += weight * times
    return count


def _annotated_title(tool: Json) -> str:
    annotations = tool.get("annotations")
    return str(cast("Json", annotations).get("title") or "") if isinstance(annotations, dict) else ""


def _arguments(tool: Json) -> Iterator[str]:
    schema = tool.get("inputSchema")
    properties = cast("Json", schema).get("properties") if isinstance(schema, dict) else None
    if isinstance(properties, dict):
        yield from cast("Json", properties)


def _brief(tool: Json) -> Json:
    description = str(tool.get("description") or "")
    cut = description if len(description) <= SHORT else description[:SHORT].rstrip() + "..."
    brief: Json = {"name": tool["name"], "description": cut}
    return {**brief, "title": tool["title"]} if isinstance(tool.get("title"), str) else brief


def _shown(content: Json) -> McpReply:
    text = msgspec.json.encode(content).decode()
    return McpReply(
        result={"content": [{"type": "text", "text": text}], "structuredContent": content, "isError": False}
    )


def _wrong(sentence: str) -> McpReply:
    return McpReply(result={"content": [{"type": "text", "text": sentence}], "isError": True})
