"""Rules of the sealed policy for the content of Messages requests: blocks, tools, and structured
controls. `fields.py` says which member has which rule
(docs/reference/isolation-requirements.md#anthropic-messages).
"""

from __future__ import annotations

from typing import Any, cast

from modelplex.dialects.anthropic.betas import BETA
from modelplex.policy.bounded_tools import BoundedToolRule, BoundFields
from modelplex.policy.containers import ListRule, ObjectRule, UnionRule, VariantRule
from modelplex.policy.leaves import (
    ARGUMENTS,
    CACHE_CONTROL,
    CLASSIFIER_CONTEXT,
    EXAMPLES,
    FLAG,
    ID,
    KEYWORD,
    LONG_TEXT,
    MIME,
    NAME,
    NUMBER,
    OPAQUE_STATE,
    PAST_MODEL,
    ROLE,
    SCHEMA,
    SWITCHES,
    TEXT,
    TEXTS,
    TYPE,
    EnumRule,
    PatternRule,
)
from modelplex.policy.path import Path
from modelplex.policy.tools import (
    DIRECT_CALLER,
    DIRECT_ONLY,
    UNKNOWN_TOOL,
    StripToolRule,
    ToolChoiceCheck,
    each_field,
)
from modelplex.policy.value_rules import (
    INLINE_BYTES,
    INLINE_URL,
    PERMITTED_MODEL,
    OverwriteRule,
    RefuseRule,
    StripRule,
)
from modelplex.policy.walk import ANY_VALUE, REMOVED, CustomRule, Json, PolicyWalk, ValueRule

DATED = "_20[0-9]{6}"
"""A version of a tool or of an edit: eight digits, and no room for anything else."""
CACHE_MARK = ObjectRule({**CACHE_CONTROL.fields, "evict_on_complete": StripRule("cache-retention", FLAG)})

# --- tools ----------------------------------------------------------------------------------------

_CLIENT = ObjectRule(
    {
        "type": TYPE,
        "name": NAME,
        "description": TEXT,
        "input_schema": SCHEMA,
        "input_examples": EXAMPLES,
        "cache_control": CACHE_MARK,
        **each_field("defer_loading strict eager_input_streaming enable_zoom", FLAG),
        **each_field("display_width_px display_height_px display_number max_characters", NUMBER),
        "configs": SWITCHES,
        "default_config": ObjectRule(each_field("enabled defer_loading", FLAG)),
        "allowed_callers": DIRECT_ONLY,
    }
)
_SERVER = ObjectRule({"allowed_callers": DIRECT_ONLY, "model": PERMITTED_MODEL}, default=ANY_VALUE)
_WORDS = BoundFields(allowed="allowed_domains", blocked="blocked_domains", max_uses="max_uses")
_BOUNDED: dict[str, ValueRule] = {
    "type": TYPE,
    "name": NAME,
    **each_field("allowed_domains blocked_domains", TEXTS),
    "max_uses": NUMBER,
    "cache_control": CACHE_MARK,
    **each_field("defer_loading strict", FLAG),
    "response_inclusion": KEYWORD,
    "allowed_callers": DIRECT_ONLY,
}
_SEARCH = BoundedToolRule(
    "web-search",
    _WORDS,
    bounded=ObjectRule(
        {
            **_BOUNDED,
            "user_location": ObjectRule(
                {"type": KEYWORD, **each_field("city country region timezone", TEXT)}
            ),
        }
    ),
    unbounded=_SERVER,
)
_FETCH = BoundedToolRule(
    "web-fetch",
    _WORDS,
    bounded=ObjectRule(
        {
            **_BOUNDED,
            "citations": ObjectRule({"enabled": FLAG}),
            "max_content_tokens": NUMBER,
            "use_cache": FLAG,
        }
    ),
    unbounded=_SERVER,
)
TOOL = VariantRule(
    {
        **each_field("custom memory_20250818 browser_toolset_20260801 computer_toolset_20260801", _CLIENT),
        **each_field("tool_search_tool_bm25 tool_search_tool_bm25_20251119", _CLIENT),
        **each_field("tool_search_tool_regex tool_search_tool_regex_20251119", _CLIENT),
        "mcp_toolset": RefuseRule("remote-mcp"),
    },
    absent=_CLIENT,
    default=UNKNOWN_TOOL,
    patterns=(
        (f"(?:bash|text_editor|computer){DATED}", _CLIENT),
        (f"web_search(?:{DATED})?", StripToolRule("web-search", _SEARCH)),
        (f"web_fetch(?:{DATED})?", StripToolRule("web-fetch", _FETCH)),
        (f"code_execution(?:{DATED})?", StripToolRule("code-execution", _SERVER)),
        (f"advisor(?:{DATED})?", StripToolRule("second-model", _SERVER)),
        ("mcp_.*", RefuseRule("remote-mcp")),
    ),
)

# --- blocks ---------------------------------------------------------------------------------------

_MARKS: dict[str, ValueRule] = {"type": TYPE, "cache_control": CACHE_MARK}
_STORED = RefuseRule("stored-file")
_TYPED: dict[str, ValueRule] = {"type": TYPE, "media_type": MIME}
BLOCK = VariantRule({})
"""Filled in below: blocks hold blocks."""
CONTENT = UnionRule(text=LONG_TEXT, items=ListRule(BLOCK))
_CITING = ObjectRule({"enabled": FLAG})
_CITATIONS = UnionRule(
    items=ListRule(
        ObjectRule(
            {
                "type": EnumRule(
                    "char_location page_location content_block_location web_search_result_location search_result_location"
                ),
                **each_field("cited_text document_title title source url", TEXT),
                "encrypted_index": OPAQUE_STATE,
                "file_id": _STORED,
                **each_field(
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
        "base64": ObjectRule({**_TYPED, "data": INLINE_BYTES}),
        "text": ObjectRule({**_TYPED, "data": TEXT}),
        "content": ObjectRule({**_TYPED, "content": CONTENT}),
        "url": ObjectRule({**_TYPED, "url": INLINE_URL}),
        "file": ObjectRule({**_TYPED, "file_id": _STORED}),
    }
)
_DOCUMENT = ObjectRule({**_MARKS, "title": TEXT, "context": TEXT, "citations": _CITATIONS, "source": _SOURCE})
_REFERENCE = VariantRule(
    {
        "tool_reference": ObjectRule({"type": TYPE, "name": NAME, "tool_name": NAME}),
        "tool_definition": ObjectRule({"type": TYPE, "definition": TOOL}),
        "mcp_tool_reference": RefuseRule("remote-mcp"),
        "mcp_toolset_reference": RefuseRule("remote-mcp"),
    }
)
_CHANGE = ObjectRule({**_MARKS, "tool": _REFERENCE})


def _change(walk: PolicyWalk, value: Any, path: Path) -> None:
    """A block that adds or removes a tool; without its tool it is nothing."""
    since = len(walk.edits)
    _CHANGE(walk, value, path)
    if any(
        edit.value is REMOVED and edit.path and edit.path[1] == "definition" for edit in walk.edits[since:]
    ):
        walk.remove(path)


_tool_change = CustomRule(_change, _CHANGE)
_SEARCHED_TOOLS = frozenset(
    "tool_search_tool_bm25 tool_search_tool_regex tool_search_tool_bm25_20251119 tool_search_tool_regex_20251119".split()
)
_TOOL_USE = ObjectRule(
    {**_MARKS, "id": ID, "name": NAME, "input": ARGUMENTS, "toolset_name": NAME, "caller": DIRECT_CALLER}
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
    ObjectRule({"content": ObjectRule({"content": _DOCUMENT}, default=ANY_VALUE)}, default=ANY_VALUE),
)
_TOOL_CHANGES = ListRule(
    VariantRule({"tool_addition": _tool_change, "tool_removal": _tool_change}), when_empty="drop"
)
_TAB = ObjectRule({"tab_id": ID, "title": TEXT, "url": TEXT, "active": FLAG})
_TAB_CHANGE = ObjectRule(
    {
        "type": KEYWORD,
        **each_field("tab_id download_id", ID),
        **each_field("url path error", TEXT),
        "size_bytes": NUMBER,
    }
)
_FALLEN_BACK = ObjectRule({"model": PAST_MODEL})
_FOUND_TOOLS = ObjectRule(
    {
        "type": EnumRule("tool_search_tool_search_result tool_search_tool_result_error"),
        "tool_references": ListRule(
            ObjectRule({"type": KEYWORD, "tool_name": NAME, "cache_control": CACHE_MARK})
        ),
        "error_code": KEYWORD,
        "error_message": TEXT,
    }
)
BLOCK.variants.update(
    {
        "text": ObjectRule({**_MARKS, "text": LONG_TEXT, "citations": _CITATIONS}),
        "image": ObjectRule(
            {**_MARKS, "transformations": ObjectRule({"oversized_image": KEYWORD}), "source": _SOURCE}
        ),
        "document": _DOCUMENT,
        "search_result": ObjectRule(
            {**_MARKS, "source": TEXT, "title": TEXT, "citations": _CITATIONS, "content": CONTENT}
        ),
        "thinking": ObjectRule({**_MARKS, "thinking": LONG_TEXT, "signature": OPAQUE_STATE}),
        "redacted_thinking": ObjectRule({**_MARKS, "data": OPAQUE_STATE}),
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
                "effort": KEYWORD,
                "trigger": ObjectRule({"type": KEYWORD, "reason": KEYWORD}),
            }
        ),
        "compaction": ObjectRule(
            {
                **_MARKS,
                "content": TEXT,
                **each_field("encrypted_content signature", OPAQUE_STATE),
                "tool_changes": _TOOL_CHANGES,
            }
        ),
        "tool_addition": _tool_change,
        "tool_removal": _tool_change,
        "server_tool_use": CustomRule(_ran_by_provider, _TOOL_USE),
        "container_upload": RefuseRule("stored-file"),
        "web_fetch_tool_result": _FETCHED,
        **each_field(
            "mcp_tool_use mcp_tool_listing mcp_tool_result advisor_tool_result web_search_tool_result "
            "code_execution_tool_result bash_code_execution_tool_result text_editor_code_execution_tool_result",
            _RAN,
        ),
    }
)

# --- controls -------------------------------------------------------------------------------------

FORMAT = VariantRule(
    {"json_schema": ObjectRule({"type": TYPE, "schema": SCHEMA, "name": NAME})},
    absent=StripRule("unknown-value"),
    default=StripRule("unknown-value"),
)
OUTPUT = ObjectRule(
    {
        "effort": KEYWORD,
        "format": FORMAT,
        "task_budget": ObjectRule({"type": KEYWORD, "total": NUMBER, "remaining": NUMBER}),
    }
)
THINKING = ObjectRule(
    {
        "type": KEYWORD,
        "budget_tokens": NUMBER,
        "display": KEYWORD,
        "block_binding": ObjectRule({"prefix_mismatch_behavior": KEYWORD}),
    }
)
_MEASURE = ObjectRule({"type": KEYWORD, "value": NUMBER})
_EDIT = ObjectRule(
    {
        "type": TYPE,
        **each_field("trigger clear_at_least", _MEASURE),
        "keep": UnionRule(text=EnumRule("all"), members=_MEASURE),
        "clear_tool_inputs": UnionRule(items=TEXTS, plain=(bool,)),
        "exclude_tools": TEXTS,
        "allowed_tools": TEXTS,
        "instructions": TEXT,
        "pause_after_compaction": FLAG,
    }
)
EDITS = VariantRule(
    {},
    absent=StripRule("unknown-value"),
    default=StripRule("unknown-value"),
    patterns=((f"(?:clear_tool_uses|clear_thinking|compact){DATED}", _EDIT),),
)
MESSAGE = ObjectRule(
    {
        "role": ROLE,
        "clear_at": KEYWORD,
        "output_config": OUTPUT,
        "content": UnionRule(text=LONG_TEXT, items=ListRule(BLOCK, when_empty="parent")),
    }
)
FALLBACKS = UnionRule(
    text=EnumRule("default"),
    items=ListRule(
        ObjectRule(
            {
                "model": PERMITTED_MODEL,
                "max_tokens": NUMBER,
                "output_config": OUTPUT,
                "speed": StripRule("price"),
                "thinking": THINKING,
            }
        )
    ),
)
_SAFEGUARD = ObjectRule(
    {
        "type": TYPE,
        # Taken whole or not at all: without one of its lists the verdicts would be others.
        "classifier_context": ObjectRule(
            {"user_identity": OverwriteRule("identity", None)}, default=CLASSIFIER_CONTEXT
        ),
    }
)
SAFEGUARDS = ListRule(
    VariantRule(
        {"dangerous_tool_use": _SAFEGUARD},
        absent=StripRule("unknown-value"),
        default=StripRule("unknown-value"),
    ),
    when_empty="drop",
)
"""Checks that the provider makes beside the answer (docs/decisions/0053-auto-mode.md)."""
CHOICE = ObjectRule({"type": TYPE, "name": NAME, "disable_parallel_tool_use": FLAG})
BETAS = ListRule(PatternRule(BETA))
COMPACTION = ObjectRule({"type": KEYWORD, "instructions": TEXT})
FINISH = (ToolChoiceCheck(TOOL, other_types=frozenset({"tool", "auto", "any", "none"})),)
