"""Anthropic's Messages and their count (isolation.md 5.4).

Above it stands the judge; below it the walk.
"""

from __future__ import annotations

from typing import Any, cast

from modelplex.dialects.anthropic.policy_betas import BETA
from modelplex.policy.bounded_tools import Bounded, BoundWords
from modelplex.policy.leaves import (
    ARGUMENTS,
    CACHE_CONTROL,
    EXAMPLES,
    FLAG,
    ID,
    KIND,
    LEVEL,
    MIME,
    MODEL,
    NAME,
    NUMBER,
    PAST_MODEL,
    ROLE,
    SCHEMA,
    SEALED,
    SWITCHES,
    TEXT,
    TEXTS,
    Pattern,
    Words,
)
from modelplex.policy.path import Path
from modelplex.policy.tools import (
    UNKNOWN_TOOL,
    Choice,
    LostTool,
    all_by,
    direct_caller,
    direct_only,
    of,
    tools_of,
)
from modelplex.policy.walk import (
    GONE,
    OPENED,
    UNKNOWN_FIELD,
    Each,
    Forms,
    Gone,
    Hashed,
    Json,
    Kinds,
    Look,
    Members,
    Never,
    Node,
    Walk,
    inline,
    inline_bytes,
    known_model,
)

DATED = "_20[0-9]{6}"
"""A version of a tool or of an edit: eight digits, and no room for anything else."""

# --- tools ---------------------------------------------------------------------------------------------------------------------------------------------------------------------

_CLIENT = Members(
    {
        "type": KIND,
        "name": NAME,
        "description": TEXT,
        "input_schema": SCHEMA,
        "input_examples": EXAMPLES,
        "cache_control": CACHE_CONTROL,
        **all_by("defer_loading strict eager_input_streaming enable_zoom", FLAG),
        **all_by("display_width_px display_height_px display_number max_characters", NUMBER),
        "configs": SWITCHES,
        "default_config": Members(all_by("enabled defer_loading", FLAG)),
        "allowed_callers": direct_only,
    }
)
_SERVER = Members({"allowed_callers": direct_only, "model": known_model}, otherwise=OPENED)
_WORDS = BoundWords(allowed="allowed_domains", blocked="blocked_domains", uses="max_uses")
_BOUNDED: dict[str, Node] = {
    "type": KIND,
    "name": NAME,
    **all_by("allowed_domains blocked_domains", TEXTS),
    "max_uses": NUMBER,
    "cache_control": CACHE_CONTROL,
    **all_by("defer_loading strict", FLAG),
    "response_inclusion": LEVEL,
    "allowed_callers": direct_only,
}
_SEARCH = Bounded(
    "web-search",
    _WORDS,
    known=Members(
        {
            **_BOUNDED,
            "user_location": Members({"type": LEVEL, **all_by("city country region timezone", TEXT)}),
        }
    ),
    opened=_SERVER,
)
_FETCH = Bounded(
    "web-fetch",
    _WORDS,
    known=Members(
        {
            **_BOUNDED,
            "citations": Members({"enabled": FLAG}),
            "max_content_tokens": NUMBER,
            "use_cache": FLAG,
        }
    ),
    opened=_SERVER,
)
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
        (f"(?:bash|text_editor|computer){DATED}", _CLIENT),
        (f"web_search(?:{DATED})?", LostTool("web-search", _SEARCH)),
        (f"web_fetch(?:{DATED})?", LostTool("web-fetch", _FETCH)),
        (f"code_execution(?:{DATED})?", LostTool("code-execution", _SERVER)),
        (f"advisor(?:{DATED})?", LostTool("second-model", _SERVER)),
        ("mcp_.*", Never("remote-mcp")),
    ),
)

# --- blocks --------------------------------------------------------------------------------------------------------------------------------------------------------------------

_MARKS: dict[str, Node] = {"type": KIND, "cache_control": CACHE_CONTROL}
_STORED = Never("stored-file")
_TYPED: dict[str, Node] = {"type": KIND, "media_type": MIME}
BLOCK = Kinds({})
"""Filled in below: blocks hold blocks."""
CONTENT = Forms(text=TEXT, items=Each(BLOCK))
_CITING = Members({"enabled": FLAG})
_CITATIONS = Forms(
    items=Each(
        Members(
            {
                "type": Words(
                    "char_location page_location content_block_location web_search_result_location search_result_location"
                ),
                **all_by("cited_text document_title title source url", TEXT),
                "encrypted_index": SEALED,
                "file_id": _STORED,
                **all_by(
                    "document_index start_char_index end_char_index start_page_number end_page_number start_block_index end_block_index "
                    "search_result_index",
                    NUMBER,
                ),
            }
        )
    ),
    members=_CITING,
)
"""What a text cites: labels. Or whether a document may be cited."""
_SOURCE = Kinds(
    {
        "base64": Members({**_TYPED, "data": inline_bytes}),
        "text": Members({**_TYPED, "data": TEXT}),
        "content": Members({**_TYPED, "content": CONTENT}),
        "url": Members({**_TYPED, "url": inline}),
        "file": Members({**_TYPED, "file_id": _STORED}),
    }
)
_DOCUMENT = Members({**_MARKS, "title": TEXT, "context": TEXT, "citations": _CITATIONS, "source": _SOURCE})
_REFERENCE = Kinds(
    {
        "tool_reference": Members({"type": KIND, "name": NAME, "tool_name": NAME}),
        "tool_definition": Members({"type": KIND, "definition": TOOL}),
        "mcp_tool_reference": Never("remote-mcp"),
        "mcp_toolset_reference": Never("remote-mcp"),
    }
)
_CHANGE = Members({**_MARKS, "tool": _REFERENCE})


def _change(walk: Walk, value: Any, path: Path) -> None:
    """A block that adds or removes a tool; without its tool it is nothing."""
    since = len(walk.edits)
    _CHANGE(walk, value, path)
    if any(edit.value is GONE and edit.path and edit.path[1] == "definition" for edit in walk.edits[since:]):
        walk.follow(path)


_tool_change = Look(_change, _CHANGE)
_SEARCHED_TOOLS = frozenset(
    "tool_search_tool_bm25 tool_search_tool_regex tool_search_tool_bm25_20251119 tool_search_tool_regex_20251119".split()
)
_TOOL_USE = Members(
    {**_MARKS, "id": ID, "name": NAME, "input": ARGUMENTS, "toolset_name": NAME, "caller": direct_caller}
)


def _ran_by_provider(walk: Walk, value: Any, path: Path) -> None:
    """What a provider ran; the search among this request's own tools may stay."""
    name = cast("Json", value).get("name")
    if not isinstance(name, str) or name not in _SEARCHED_TOOLS:
        walk.refuse(path, "provider-history")
    _TOOL_USE(walk, value, path)


_RAN = Never("provider-history")
_FETCHED = Never(
    "provider-history",
    Members({"content": Members({"content": _DOCUMENT}, otherwise=OPENED)}, otherwise=OPENED),
)
_TOOL_CHANGES = Each(Kinds({"tool_addition": _tool_change, "tool_removal": _tool_change}), when_empty="drop")
_TAB = Members({"tab_id": ID, "title": TEXT, "url": TEXT, "active": FLAG})
_TAB_CHANGE = Members(
    {
        "type": LEVEL,
        **all_by("tab_id download_id", ID),
        **all_by("url path error", TEXT),
        "size_bytes": NUMBER,
    }
)
_FALLEN_BACK = Members({"model": PAST_MODEL})
_FOUND_TOOLS = Members(
    {
        "type": Words("tool_search_tool_search_result tool_search_tool_result_error"),
        "tool_references": Each(Members({"type": LEVEL, "tool_name": NAME, "cache_control": CACHE_CONTROL})),
        "error_code": LEVEL,
        "error_message": TEXT,
    }
)
BLOCK.kinds.update(
    {
        "text": Members({**_MARKS, "text": TEXT, "citations": _CITATIONS}),
        "image": Members(
            {**_MARKS, "transformations": Members({"oversized_image": LEVEL}), "source": _SOURCE}
        ),
        "document": _DOCUMENT,
        "search_result": Members(
            {**_MARKS, "source": TEXT, "title": TEXT, "citations": _CITATIONS, "content": CONTENT}
        ),
        "thinking": Members({**_MARKS, "thinking": TEXT, "signature": SEALED}),
        "redacted_thinking": Members({**_MARKS, "data": SEALED}),
        "tool_use": _TOOL_USE,
        "tool_result": Members(
            {**_MARKS, "tool_use_id": ID, "is_error": FLAG, "toolset_name": NAME, "content": CONTENT}
        ),
        "tool_reference": Members({**_MARKS, "tool_name": NAME, "name": NAME}),
        "browser_state": Members({**_MARKS, "tabs": Each(_TAB), "state_changes": Each(_TAB_CHANGE)}),
        "tool_search_tool_result": Members({**_MARKS, "tool_use_id": ID, "content": _FOUND_TOOLS}),
        "fallback": Members(
            {
                **_MARKS,
                "from": _FALLEN_BACK,
                "to": _FALLEN_BACK,
                "effort": LEVEL,
                "trigger": Members({"type": LEVEL, "reason": LEVEL}),
            }
        ),
        "compaction": Members(
            {
                **_MARKS,
                "content": TEXT,
                **all_by("encrypted_content signature", SEALED),
                "tool_changes": _TOOL_CHANGES,
            }
        ),
        "tool_addition": _tool_change,
        "tool_removal": _tool_change,
        "server_tool_use": Look(_ran_by_provider, _TOOL_USE),
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

_FORMAT = Kinds(
    {"json_schema": Members({"type": KIND, "schema": SCHEMA, "name": NAME})},
    absent=Gone("unknown-value"),
    otherwise=Gone("unknown-value"),
)
_OUTPUT = Members(
    {
        "effort": LEVEL,
        "format": _FORMAT,
        "task_budget": Members({"type": LEVEL, "total": NUMBER, "remaining": NUMBER}),
    }
)
_THINKING = Members(
    {
        "type": LEVEL,
        "budget_tokens": NUMBER,
        "display": LEVEL,
        "block_binding": Members({"prefix_mismatch_behavior": LEVEL}),
    }
)
_MEASURE = Members({"type": LEVEL, "value": NUMBER})
_EDIT = Members(
    {
        "type": KIND,
        **all_by("trigger clear_at_least", _MEASURE),
        "keep": Forms(text=Words("all"), members=_MEASURE),
        "clear_tool_inputs": Forms(items=TEXTS, plain=(bool,)),
        "exclude_tools": TEXTS,
        "allowed_tools": TEXTS,
        "instructions": TEXT,
        "pause_after_compaction": FLAG,
    }
)
_EDITS = Kinds(
    {},
    absent=Gone("unknown-value"),
    otherwise=Gone("unknown-value"),
    families=((f"(?:clear_tool_uses|clear_thinking|compact){DATED}", _EDIT),),
)
_MESSAGE = Members(
    {
        "role": ROLE,
        "clear_at": LEVEL,
        "output_config": _OUTPUT,
        "content": Forms(text=TEXT, items=Each(BLOCK, when_empty="parent")),
    }
)
_USER = Members({"user_id": Hashed("metadata.user_id")}, otherwise=Gone("labels"))
_FALLBACKS = Forms(
    text=Words("default"),
    items=Each(
        Members(
            {
                "model": known_model,
                "max_tokens": NUMBER,
                "output_config": _OUTPUT,
                "speed": Gone("price"),
                "thinking": _THINKING,
            }
        )
    ),
)
_CHOICE = Members({"type": KIND, "name": NAME, "disable_parallel_tool_use": FLAG})
_BETA = Pattern(BETA)
_PRICE: Node = Gone("price")
TOP = Members(
    of(
        {
            "model": MODEL,
            **all_by("max_tokens temperature top_p top_k", NUMBER),
            "stop_sequences": TEXTS,
            "stream": FLAG,
            "thinking": _THINKING,
            "output_config": _OUTPUT,
            "output_format": _FORMAT,
            "context_management": Members({"edits": Each(_EDITS)}),
            "compaction": Members({"type": LEVEL, "instructions": TEXT}),
            "cache_control": CACHE_CONTROL,
            "tool_choice": _CHOICE,
            "messages": Each(_MESSAGE),
            "system": CONTENT,
            "tools": tools_of(TOOL),
            "metadata": _USER,
            "mcp_servers": Never("remote-mcp"),
            "container": Never("code-execution"),
            "thread": Never("stored-state"),
            "diagnostics": Gone("stored-state"),
            "fallbacks": Gone("second-model", _FALLBACKS),
            "betas": Gone("beta", Each(_BETA)),
            "anthropic_beta": Gone("beta", Each(_BETA)),
            "workspace_id": Gone("identity"),
            "user_profile_id": Gone("identity"),
        },
        all_by("fallback_credit_token billing_policy speed service_tier inference_geo", _PRICE),
    ),
    otherwise=UNKNOWN_FIELD,
)
FINISH = (Choice(TOOL, words=frozenset({"tool", "auto", "any", "none"})),)
