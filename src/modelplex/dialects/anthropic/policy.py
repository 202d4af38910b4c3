"""Anthropic's Messages and their count
(docs/reference/isolation-requirements.md#anthropic-messages).

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
    EnumRule,
    PatternRule,
)
from modelplex.policy.path import Path
from modelplex.policy.tools import (
    UNKNOWN_TOOL,
    LostTool,
    ToolChoiceRule,
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
    CustomRule,
    HashRule,
    Json,
    ListRule,
    ObjectRule,
    PolicyWalk,
    RefuseRule,
    StripRule,
    UnionRule,
    ValueRule,
    VariantRule,
    inline,
    inline_bytes,
    known_model,
)

DATED = "_20[0-9]{6}"
"""A version of a tool or of an edit: eight digits, and no room for anything else."""

# --- tools ----------------------------------------------------------------------------------------

_CLIENT = ObjectRule(
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
        "default_config": ObjectRule(all_by("enabled defer_loading", FLAG)),
        "allowed_callers": direct_only,
    }
)
_SERVER = ObjectRule({"allowed_callers": direct_only, "model": known_model}, otherwise=OPENED)
_WORDS = BoundWords(allowed="allowed_domains", blocked="blocked_domains", uses="max_uses")
_BOUNDED: dict[str, ValueRule] = {
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
    known=ObjectRule(
        {
            **_BOUNDED,
            "user_location": ObjectRule({"type": LEVEL, **all_by("city country region timezone", TEXT)}),
        }
    ),
    opened=_SERVER,
)
_FETCH = Bounded(
    "web-fetch",
    _WORDS,
    known=ObjectRule(
        {
            **_BOUNDED,
            "citations": ObjectRule({"enabled": FLAG}),
            "max_content_tokens": NUMBER,
            "use_cache": FLAG,
        }
    ),
    opened=_SERVER,
)
TOOL = VariantRule(
    {
        **all_by("custom memory_20250818 browser_toolset_20260801 computer_toolset_20260801", _CLIENT),
        **all_by("tool_search_tool_bm25 tool_search_tool_bm25_20251119", _CLIENT),
        **all_by("tool_search_tool_regex tool_search_tool_regex_20251119", _CLIENT),
        "mcp_toolset": RefuseRule("remote-mcp"),
    },
    absent=_CLIENT,
    otherwise=UNKNOWN_TOOL,
    families=(
        (f"(?:bash|text_editor|computer){DATED}", _CLIENT),
        (f"web_search(?:{DATED})?", LostTool("web-search", _SEARCH)),
        (f"web_fetch(?:{DATED})?", LostTool("web-fetch", _FETCH)),
        (f"code_execution(?:{DATED})?", LostTool("code-execution", _SERVER)),
        (f"advisor(?:{DATED})?", LostTool("second-model", _SERVER)),
        ("mcp_.*", RefuseRule("remote-mcp")),
    ),
)

# --- blocks ---------------------------------------------------------------------------------------

_MARKS: dict[str, ValueRule] = {"type": KIND, "cache_control": CACHE_CONTROL}
_STORED = RefuseRule("stored-file")
_TYPED: dict[str, ValueRule] = {"type": KIND, "media_type": MIME}
BLOCK = VariantRule({})
"""Filled in below: blocks hold blocks."""
CONTENT = UnionRule(text=TEXT, items=ListRule(BLOCK))
_CITING = ObjectRule({"enabled": FLAG})
_CITATIONS = UnionRule(
    items=ListRule(
        ObjectRule(
            {
                "type": EnumRule(
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
_SOURCE = VariantRule(
    {
        "base64": ObjectRule({**_TYPED, "data": inline_bytes}),
        "text": ObjectRule({**_TYPED, "data": TEXT}),
        "content": ObjectRule({**_TYPED, "content": CONTENT}),
        "url": ObjectRule({**_TYPED, "url": inline}),
        "file": ObjectRule({**_TYPED, "file_id": _STORED}),
    }
)
_DOCUMENT = ObjectRule({**_MARKS, "title": TEXT, "context": TEXT, "citations": _CITATIONS, "source": _SOURCE})
_REFERENCE = VariantRule(
    {
        "tool_reference": ObjectRule({"type": KIND, "name": NAME, "tool_name": NAME}),
        "tool_definition": ObjectRule({"type": KIND, "definition": TOOL}),
        "mcp_tool_reference": RefuseRule("remote-mcp"),
        "mcp_toolset_reference": RefuseRule("remote-mcp"),
    }
)
_CHANGE = ObjectRule({**_MARKS, "tool": _REFERENCE})


def _change(walk: PolicyWalk, value: Any, path: Path) -> None:
    """A block that adds or removes a tool; without its tool it is nothing."""
    since = len(walk.edits)
    _CHANGE(walk, value, path)
    if any(edit.value is GONE and edit.path and edit.path[1] == "definition" for edit in walk.edits[since:]):
        walk.follow(path)


_tool_change = CustomRule(_change, _CHANGE)
_SEARCHED_TOOLS = frozenset(
    "tool_search_tool_bm25 tool_search_tool_regex tool_search_tool_bm25_20251119 tool_search_tool_regex_20251119".split()
)
_TOOL_USE = ObjectRule(
    {**_MARKS, "id": ID, "name": NAME, "input": ARGUMENTS, "toolset_name": NAME, "caller": direct_caller}
)


def _ran_by_provider(walk: PolicyWalk, value: Any, path: Path) -> None:
    """What a provider ran; the search among this request's own tools may stay."""
    name = cast("Json", value).get("name")
    if not isinstance(name, str) or name not in _SEARCHED_TOOLS:
        walk.refuse(path, "provider-history")
    _TOOL_USE(walk, value, path)


_RAN = RefuseRule("provider-history")
_FETCHED = RefuseRule(
    "provider-history",
    ObjectRule({"content": ObjectRule({"content": _DOCUMENT}, otherwise=OPENED)}, otherwise=OPENED),
)
_TOOL_CHANGES = ListRule(
    VariantRule({"tool_addition": _tool_change, "tool_removal": _tool_change}), when_empty="drop"
)
_TAB = ObjectRule({"tab_id": ID, "title": TEXT, "url": TEXT, "active": FLAG})
_TAB_CHANGE = ObjectRule(
    {
        "type": LEVEL,
        **all_by("tab_id download_id", ID),
        **all_by("url path error", TEXT),
        "size_bytes": NUMBER,
    }
)
_FALLEN_BACK = ObjectRule({"model": PAST_MODEL})
_FOUND_TOOLS = ObjectRule(
    {
        "type": EnumRule("tool_search_tool_search_result tool_search_tool_result_error"),
        "tool_references": ListRule(
            ObjectRule({"type": LEVEL, "tool_name": NAME, "cache_control": CACHE_CONTROL})
        ),
        "error_code": LEVEL,
        "error_message": TEXT,
    }
)
BLOCK.kinds.update(
    {
        "text": ObjectRule({**_MARKS, "text": TEXT, "citations": _CITATIONS}),
        "image": ObjectRule(
            {**_MARKS, "transformations": ObjectRule({"oversized_image": LEVEL}), "source": _SOURCE}
        ),
        "document": _DOCUMENT,
        "search_result": ObjectRule(
            {**_MARKS, "source": TEXT, "title": TEXT, "citations": _CITATIONS, "content": CONTENT}
        ),
        "thinking": ObjectRule({**_MARKS, "thinking": TEXT, "signature": SEALED}),
        "redacted_thinking": ObjectRule({**_MARKS, "data": SEALED}),
        "tool_use": _TOOL_USE,
        "tool_result": ObjectRule(
            {**_MARKS, "tool_use_id": ID, "is_error": FLAG, "toolset_name": NAME, "content": CONTENT}
        ),
        "tool_reference": ObjectRule({**_MARKS, "tool_name": NAME, "name": NAME}),
        "browser_state": ObjectRule(
            {**_MARKS, "tabs": ListRule(_TAB), "state_changes": ListRule(_TAB_CHANGE)}
        ),
        "tool_search_tool_result": ObjectRule({**_MARKS, "tool_use_id": ID, "content": _FOUND_TOOLS}),
        "fallback": ObjectRule(
            {
                **_MARKS,
                "from": _FALLEN_BACK,
                "to": _FALLEN_BACK,
                "effort": LEVEL,
                "trigger": ObjectRule({"type": LEVEL, "reason": LEVEL}),
            }
        ),
        "compaction": ObjectRule(
            {
                **_MARKS,
                "content": TEXT,
                **all_by("encrypted_content signature", SEALED),
                "tool_changes": _TOOL_CHANGES,
            }
        ),
        "tool_addition": _tool_change,
        "tool_removal": _tool_change,
        "server_tool_use": CustomRule(_ran_by_provider, _TOOL_USE),
        "container_upload": RefuseRule("stored-file"),
        "web_fetch_tool_result": _FETCHED,
        **all_by(
            "mcp_tool_use mcp_tool_listing mcp_tool_result advisor_tool_result web_search_tool_result "
            "code_execution_tool_result bash_code_execution_tool_result text_editor_code_execution_tool_result",
            _RAN,
        ),
    }
)

# --- the top --------------------------------------------------------------------------------------

_FORMAT = VariantRule(
    {"json_schema": ObjectRule({"type": KIND, "schema": SCHEMA, "name": NAME})},
    absent=StripRule("unknown-value"),
    otherwise=StripRule("unknown-value"),
)
_OUTPUT = ObjectRule(
    {
        "effort": LEVEL,
        "format": _FORMAT,
        "task_budget": ObjectRule({"type": LEVEL, "total": NUMBER, "remaining": NUMBER}),
    }
)
_THINKING = ObjectRule(
    {
        "type": LEVEL,
        "budget_tokens": NUMBER,
        "display": LEVEL,
        "block_binding": ObjectRule({"prefix_mismatch_behavior": LEVEL}),
    }
)
_MEASURE = ObjectRule({"type": LEVEL, "value": NUMBER})
_EDIT = ObjectRule(
    {
        "type": KIND,
        **all_by("trigger clear_at_least", _MEASURE),
        "keep": UnionRule(text=EnumRule("all"), members=_MEASURE),
        "clear_tool_inputs": UnionRule(items=TEXTS, plain=(bool,)),
        "exclude_tools": TEXTS,
        "allowed_tools": TEXTS,
        "instructions": TEXT,
        "pause_after_compaction": FLAG,
    }
)
_EDITS = VariantRule(
    {},
    absent=StripRule("unknown-value"),
    otherwise=StripRule("unknown-value"),
    families=((f"(?:clear_tool_uses|clear_thinking|compact){DATED}", _EDIT),),
)
_MESSAGE = ObjectRule(
    {
        "role": ROLE,
        "clear_at": LEVEL,
        "output_config": _OUTPUT,
        "content": UnionRule(text=TEXT, items=ListRule(BLOCK, when_empty="parent")),
    }
)
_USER = ObjectRule({"user_id": HashRule("metadata.user_id")}, otherwise=StripRule("labels"))
_FALLBACKS = UnionRule(
    text=EnumRule("default"),
    items=ListRule(
        ObjectRule(
            {
                "model": known_model,
                "max_tokens": NUMBER,
                "output_config": _OUTPUT,
                "speed": StripRule("price"),
                "thinking": _THINKING,
            }
        )
    ),
)
_CHOICE = ObjectRule({"type": KIND, "name": NAME, "disable_parallel_tool_use": FLAG})
_BETA = PatternRule(BETA)
_PRICE: ValueRule = StripRule("price")
TOP = ObjectRule(
    of(
        {
            "model": MODEL,
            **all_by("max_tokens temperature top_p top_k", NUMBER),
            "stop_sequences": TEXTS,
            "stream": FLAG,
            "thinking": _THINKING,
            "output_config": _OUTPUT,
            "output_format": _FORMAT,
            "context_management": ObjectRule({"edits": ListRule(_EDITS)}),
            "compaction": ObjectRule({"type": LEVEL, "instructions": TEXT}),
            "cache_control": CACHE_CONTROL,
            "tool_choice": _CHOICE,
            "messages": ListRule(_MESSAGE),
            "system": CONTENT,
            "tools": tools_of(TOOL),
            "metadata": _USER,
            "mcp_servers": RefuseRule("remote-mcp"),
            "container": RefuseRule("code-execution"),
            "thread": RefuseRule("stored-state"),
            "diagnostics": StripRule("stored-state"),
            "fallbacks": StripRule("second-model", _FALLBACKS),
            "betas": StripRule("beta", ListRule(_BETA)),
            "anthropic_beta": StripRule("beta", ListRule(_BETA)),
            "workspace_id": StripRule("identity"),
            "user_profile_id": StripRule("identity"),
        },
        all_by("fallback_credit_token billing_policy speed service_tier inference_geo", _PRICE),
    ),
    otherwise=UNKNOWN_FIELD,
)
FINISH = (ToolChoiceRule(TOOL, words=frozenset({"tool", "auto", "any", "none"})),)
