"""Anthropic's Messages and their count (isolation.md 5.4).

Above it stands the judge; below it the walk.
"""

from __future__ import annotations

from typing import Any, cast

from modelplex.policy._path import Path
from modelplex.policy._tools import (
    UNKNOWN_TOOL,
    Choice,
    LostTool,
    all_by,
    direct_caller,
    direct_only,
    of,
    passing,
    tools_of,
)
from modelplex.policy._walk import (
    GONE,
    UNKNOWN_FIELD,
    Check,
    Each,
    Forms,
    Gone,
    Hashed,
    Json,
    Kinds,
    Members,
    Never,
    Walk,
    inline,
    inline_bytes,
    known_model,
)

# --- tools ---------------------------------------------------------------------------------------------------------------------------------------------------------------------

_CLIENT = Members(
    of(
        passing(
            "type name description input_schema input_examples cache_control defer_loading strict eager_input_streaming "
            "display_width_px display_height_px display_number enable_zoom max_characters configs default_config"
        ),
        {"allowed_callers": direct_only},
    )
)
_SERVER = Members({"allowed_callers": direct_only, "model": known_model}, otherwise=None)
TOOL = Kinds(
    {
        **all_by("custom memory_20250818 browser_toolset_20260801 computer_toolset_20260801", _CLIENT),
        **all_by("tool_search_tool_bm25 tool_search_tool_bm25_20251119", _CLIENT),
        **all_by("tool_search_tool_regex tool_search_tool_regex_20251119", _CLIENT),
        "mcp_toolset": Never("remote-mcp"),
    },
    absent=_CLIENT,
    otherwise=UNKNOWN_TOOL,
    families=(
        ("bash_20", _CLIENT),
        ("text_editor_20", _CLIENT),
        ("computer_20", _CLIENT),
        ("web_search", LostTool("web-search", _SERVER)),
        ("web_fetch", LostTool("web-fetch", _SERVER)),
        ("code_execution", LostTool("code-execution", _SERVER)),
        ("advisor", LostTool("second-model", _SERVER)),
        ("mcp_", Never("remote-mcp")),
    ),
)

# --- blocks --------------------------------------------------------------------------------------------------------------------------------------------------------------------

_MARKS = passing("type cache_control")
_STORED = Never("stored-file")
_TYPED = passing("type media_type")
BLOCK = Kinds({})
"""Filled in below: blocks hold blocks."""


def _block(walk: Walk, value: Any, path: Path) -> None:
    """A block within a block."""
    BLOCK(walk, value, path)


CONTENT = Forms(text=None, items=Each(_block))
_SOURCE = Kinds(
    {
        "base64": Members(of(_TYPED, {"data": inline_bytes})),
        "text": Members(of(_TYPED, passing("data"))),
        "content": Members(of(_TYPED, {"content": CONTENT})),
        "url": Members(of(_TYPED, {"url": inline})),
        "file": Members(of(_TYPED, {"file_id": _STORED})),
    }
)
_DOCUMENT = Members(of(_MARKS, passing("title context citations"), {"source": _SOURCE}))
_REFERENCE = Kinds(
    {
        "tool_reference": Members(passing("type name tool_name")),
        "tool_definition": Members(of(passing("type"), {"definition": TOOL})),
        "mcp_tool_reference": Never("remote-mcp"),
        "mcp_toolset_reference": Never("remote-mcp"),
    }
)
_CHANGE = Members(of(_MARKS, {"tool": _REFERENCE}))


def _tool_change(walk: Walk, value: Any, path: Path) -> None:
    """A block that adds or removes a tool; without its tool it is nothing."""
    since = len(walk.edits)
    _CHANGE(walk, value, path)
    if any(edit.value is GONE and edit.path and edit.path[1] == "definition" for edit in walk.edits[since:]):
        walk.follow(path)


_SEARCHED_TOOLS = frozenset(
    "tool_search_tool_bm25 tool_search_tool_regex tool_search_tool_bm25_20251119 tool_search_tool_regex_20251119".split()
)
_TOOL_USE = Members(of(_MARKS, passing("id name input toolset_name"), {"caller": direct_caller}))


def _server_tool_use(walk: Walk, value: Any, path: Path) -> None:
    """What a provider ran; the search among this request's own tools may stay."""
    name = cast("Json", value).get("name")
    if not isinstance(name, str) or name not in _SEARCHED_TOOLS:
        walk.refuse(path, "provider-history")
    _TOOL_USE(walk, value, path)


_RAN = Never("provider-history")
_FETCHED = Never(
    "provider-history",
    Members({"content": Members({"content": _DOCUMENT}, otherwise=None)}, otherwise=None),
)
_TOOL_CHANGES = Each(_tool_change, when_empty="drop")
BLOCK.kinds.update(
    {
        "text": Members(of(_MARKS, passing("text citations"))),
        "image": Members(of(_MARKS, passing("transformations"), {"source": _SOURCE})),
        "document": _DOCUMENT,
        "search_result": Members(of(_MARKS, passing("source title citations"), {"content": CONTENT})),
        "thinking": Members(of(_MARKS, passing("thinking signature"))),
        "redacted_thinking": Members(of(_MARKS, passing("data"))),
        "tool_use": _TOOL_USE,
        "tool_result": Members(
            of(_MARKS, passing("tool_use_id is_error toolset_name"), {"content": CONTENT})
        ),
        "tool_reference": Members(of(_MARKS, passing("tool_name name"))),
        "browser_state": Members(of(_MARKS, passing("tabs state_changes"))),
        "tool_search_tool_result": Members(of(_MARKS, passing("tool_use_id content"))),
        "fallback": None,
        "compaction": Members(
            of(_MARKS, passing("content encrypted_content signature"), {"tool_changes": _TOOL_CHANGES})
        ),
        "tool_addition": _tool_change,
        "tool_removal": _tool_change,
        "server_tool_use": _server_tool_use,
        "container_upload": Never("stored-file"),
        "web_fetch_tool_result": _FETCHED,
        **all_by(
            "mcp_tool_use mcp_tool_listing mcp_tool_result advisor_tool_result web_search_tool_result "
            "code_execution_tool_result bash_code_execution_tool_result text_editor_code_execution_tool_result",
            _RAN,
        ),
    }
)

# --- the top -------------------------------------------------------------------------------------------------------------------------------------------------------------------

_MESSAGE = Members(
    of(
        passing("role clear_at output_config"),
        {"content": Forms(text=None, items=Each(BLOCK, when_empty="parent"))},
    )
)
_USER = Members({"user_id": Hashed("metadata.user_id")}, otherwise=Gone("labels"))
_FALLBACKS = Forms(text=None, items=Each(Members({"model": known_model}, otherwise=None)))
_PRICE: Check = Gone("price")
TOP = Members(
    of(
        passing(
            "model max_tokens temperature top_p top_k stop_sequences stream thinking output_config output_format "
            "context_management compaction cache_control tool_choice"
        ),
        {
            "messages": Each(_MESSAGE),
            "system": CONTENT,
            "tools": tools_of(TOOL),
            "metadata": _USER,
            "mcp_servers": Never("remote-mcp"),
            "container": Never("code-execution"),
            "thread": Never("stored-state"),
            "diagnostics": Gone("stored-state"),
            "fallbacks": Gone("second-model", _FALLBACKS),
            "betas": Gone("beta"),
            "anthropic_beta": Gone("beta"),
            "workspace_id": Gone("identity"),
            "user_profile_id": Gone("identity"),
        },
        all_by("fallback_credit_token billing_policy speed service_tier inference_geo", _PRICE),
    ),
    otherwise=UNKNOWN_FIELD,
)
FINISH = (Choice(TOOL, words=frozenset({"tool", "auto", "any", "none"})),)
