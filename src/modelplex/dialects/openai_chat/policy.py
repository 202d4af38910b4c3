"""Rules of the sealed policy for the content of chat completions requests: messages, tools, and the
members of single services. `fields.py` says which member has which rule
(docs/reference/isolation-requirements.md#openai-chat-completions and #compatible-providers).
"""

from __future__ import annotations

from typing import Any, cast

from modelplex.policy.bounded_tools import BoundedToolRule, BoundFields, DomainListRule, PluginListRule
from modelplex.policy.containers import ListRule, ObjectRule, UnionRule, VariantRule
from modelplex.policy.leaves import (
    ARGUMENTS,
    BREAKPOINT,
    CACHE_CONTROL,
    FLAG,
    FORMAT,
    GRAMMAR,
    ID,
    KEYWORD,
    LONG_TEXT,
    MIME,
    NAME,
    NUMBER,
    OPAQUE_STATE,
    ROLE,
    SCHEMA,
    TEXT,
    TYPE,
    EnumRule,
    PatternRule,
)
from modelplex.policy.path import Path
from modelplex.policy.tools import UNKNOWN_TOOL, StripToolRule, ToolChoiceCheck, each_field
from modelplex.policy.value_rules import (
    INLINE_BYTES,
    INLINE_URL,
    PERMITTED_MODEL,
    ExceptRule,
    RefuseRule,
    StripRule,
)
from modelplex.policy.walk import CustomRule, DeferredRule, Json, PolicyWalk, ValueRule

# --- what all of OpenAI's forms share -------------------------------------------------------------

_MODELS = UnionRule(
    items=ListRule(UnionRule(text=PERMITTED_MODEL, members=ObjectRule({"model": PERMITTED_MODEL})))
)
_SEARCHES = StripRule("web-search", BoundedToolRule("web-search"))
SERVICES: dict[str, ValueRule] = {
    **each_field(
        "web_search_options search_parameters enable_search search_options search_settings",
        _SEARCHES,
    ),
    "search_domain_filter": StripRule("web-search", DomainListRule("web-search")),
    **each_field(
        "search_mode search_recency_filter search_after_date_filter search_before_date_filter "
        "search_context_size return_images return_related_questions web_search",
        _SEARCHES,
    ),
    **each_field("models fallbacks", StripRule("second-model", _MODELS)),
    **each_field(
        "route provider transforms preset api_base base_url api_key api_version user_config model_list "
        "callbacks success_callback failure_callback",
        StripRule("provider-switch"),
    ),
    "plugins": StripRule(
        "provider-switch",
        PluginListRule(
            BoundedToolRule("web-search", BoundFields(allowed="include_domains", blocked="exclude_domains"))
        ),
    ),
    "data_sources": RefuseRule("remote-data"),
    "disable_search": ExceptRule(True, StripRule("web-search")),
}
"""Members of single services (docs/reference/isolation-requirements.md#compatible-providers)."""
JSON_FORMAT: dict[str, ValueRule] = {
    "text": ObjectRule({"type": TYPE}),
    "json_object": ObjectRule({"type": TYPE, "schema": SCHEMA}),
}
# --- content --------------------------------------------------------------------------------------

_MARKS: dict[str, ValueRule] = {
    "type": TYPE,
    "cache_control": CACHE_CONTROL,
    "prompt_cache_breakpoint": BREAKPOINT,
}
ADDRESS = UnionRule(
    text=INLINE_URL,
    members=ObjectRule(
        {"url": INLINE_URL, "detail": KEYWORD, "format": FORMAT, "mime_type": MIME, "fps": NUMBER}
    ),
)
_CITED: dict[str, ValueRule] = {
    "type": TYPE,
    "url": TEXT,
    "title": TEXT,
    "content": TEXT,
    "text": TEXT,
    "cited_text": TEXT,
    **each_field("start_index end_index index", NUMBER),
}
_LINK = ObjectRule({**_CITED, "url_citation": ObjectRule(_CITED)})
"""A link that an answer had. It is a label: no provider fetches what an answer cited."""
_PARSED_FILE = ObjectRule({"hash": ID, "name": NAME, "content": ListRule(DeferredRule(lambda: PART))})
ANNOTATIONS = ListRule(
    VariantRule(
        {
            "url_citation": _LINK,
            "file": ObjectRule({"type": TYPE, "file": _PARSED_FILE}),
            **each_field("file_citation container_file_citation file_path", RefuseRule("stored-file")),
        },
    )
)
"""What an answer cited, or what a service read out of a file (OpenRouter): its pictures are
content, and judged like it.
"""
_TEXT = ObjectRule({**_MARKS, "text": LONG_TEXT, "annotations": ANNOTATIONS, "citations": ListRule(_LINK)})
_FILE = ObjectRule(
    {
        "filename": NAME,
        "file_name": NAME,
        "format": UnionRule(text=MIME),
        "mime_type": MIME,
        "file_id": RefuseRule("stored-file"),
        "file_data": INLINE_BYTES,
        "file_url": INLINE_URL,
        "url": INLINE_URL,
    }
)
PART: VariantRule = VariantRule(
    {
        "text": _TEXT,
        "refusal": ObjectRule({**_MARKS, "refusal": TEXT}),
        "image_url": ObjectRule({**_MARKS, "image_url": ADDRESS}),
        "video_url": ObjectRule({**_MARKS, "video_url": ADDRESS, "fps": NUMBER}),
        "audio_url": ObjectRule({**_MARKS, "audio_url": ADDRESS}),
        "document_url": ObjectRule({**_MARKS, "document_url": ADDRESS, "document_name": NAME}),
        "input_audio": ObjectRule(
            {
                **_MARKS,
                "input_audio": UnionRule(
                    text=INLINE_BYTES, members=ObjectRule({"data": INLINE_BYTES, "format": FORMAT})
                ),
            }
        ),
        "file": ObjectRule({**_MARKS, "file": _FILE, "file_id": RefuseRule("stored-file")}),
        "thinking": ObjectRule(
            {
                **_MARKS,
                "thinking": UnionRule(text=TEXT, items=ListRule(_TEXT)),
                "signature": OPAQUE_STATE,
                "closed": FLAG,
            }
        ),
        "redacted_thinking": ObjectRule({**_MARKS, "data": OPAQUE_STATE}),
        "reasoning": ObjectRule({**_MARKS, "text": TEXT, "reasoning": TEXT}),
    }
)
CONTENT = UnionRule(text=LONG_TEXT, items=ListRule(PART))

# --- the history ----------------------------------------------------------------------------------

_SIGNED = ObjectRule({"google": ObjectRule({"thought_signature": OPAQUE_STATE, "thought": FLAG})})
_CALLED = ObjectRule({"name": NAME, "arguments": ARGUMENTS, "input": TEXT, "description": TEXT})
_TOOL_CALL = ObjectRule(
    {
        "id": ID,
        "type": EnumRule("function custom", required=True),
        "index": NUMBER,
        "function": _CALLED,
        "custom": _CALLED,
        "extra_content": _SIGNED,
        "thought_signature": OPAQUE_STATE,
        "cache_control": CACHE_CONTROL,
    }
)
_DETAIL = ObjectRule(
    {
        "type": EnumRule(
            "reasoning.text reasoning.summary reasoning.encrypted reasoning.server_tool_call thinking text"
        ),
        "id": ID,
        "format": PatternRule(r"[a-z0-9][a-z0-9.-]{0,39}"),
        "index": NUMBER,
        **each_field("text summary thinking", TEXT),
        **each_field("data signature", OPAQUE_STATE),
    }
)
_THINKING = ObjectRule(
    {
        "type": KEYWORD,
        "thinking": TEXT,
        "signature": OPAQUE_STATE,
        "data": OPAQUE_STATE,
        "cache_control": CACHE_CONTROL,
    }
)
MESSAGE = ObjectRule(
    {
        "role": ROLE,
        "content": CONTENT,
        "audio": ObjectRule({"id": RefuseRule("stored-file")}),
        "name": NAME,
        "tool_calls": ListRule(_TOOL_CALL),
        "tool_call_id": ID,
        "function_call": _CALLED,
        **each_field("refusal reasoning reasoning_content reasoning_text thinking", TEXT),
        **each_field("reasoning_opaque thought_signature", OPAQUE_STATE),
        "reasoning_details": ListRule(_DETAIL),
        "thinking_blocks": ListRule(_THINKING),
        "annotations": ANNOTATIONS,
        "cache_control": CACHE_CONTROL,
        "extra_content": _SIGNED,
        **each_field("prefix partial is_error", FLAG),
        "phase": KEYWORD,
    }
)

# --- tools ----------------------------------------------------------------------------------------

DECLARED = ObjectRule(
    {
        "name": NAME,
        "description": TEXT,
        "parameters": SCHEMA,
        "input_schema": SCHEMA,
        "strict": FLAG,
        "cache_control": CACHE_CONTROL,
    }
)
_FUNCTION = ObjectRule({"type": TYPE, "function": DECLARED, "cache_control": CACHE_CONTROL, "strict": FLAG})
_CUSTOM = ObjectRule({"name": NAME, "description": TEXT, "format": GRAMMAR})


def _untyped(walk: PolicyWalk, value: Any, path: Path) -> None:
    """Some clients leave the type of a function out."""
    check = _FUNCTION if isinstance(cast("Json", value).get("function"), dict) else UNKNOWN_TOOL
    check(walk, value, path)


_SEARCH = StripToolRule("web-search", BoundedToolRule("web-search"))
OPENROUTER_SEARCH = BoundedToolRule(
    "web-search", BoundFields(allowed="allowed_domains", blocked="excluded_domains", parent="parameters")
)
TOOL = VariantRule(
    {
        "function": _FUNCTION,
        "custom": ObjectRule({"type": TYPE, "custom": _CUSTOM, "cache_control": CACHE_CONTROL}),
        "web_search": _SEARCH,
        "web_search_premium": _SEARCH,
        "code_interpreter": StripToolRule("code-execution"),
        "image_generation": StripToolRule("image-generation"),
        "document_library": StripToolRule("stored-file"),
        "browser_search": _SEARCH,
        "builtin_function": _SEARCH,
        "web_extractor": StripToolRule("web-fetch", BoundedToolRule("web-fetch")),
        "openrouter:web_search": StripToolRule("provider-switch", OPENROUTER_SEARCH),
        "openrouter:web_fetch": StripToolRule("provider-switch", BoundedToolRule("web-fetch")),
        "mcp": RefuseRule("remote-mcp"),
    },
    absent=CustomRule(_untyped, _FUNCTION, UNKNOWN_TOOL),
    default=UNKNOWN_TOOL,
    patterns=(
        (r"web_search_[a-z0-9_]{1,40}", _SEARCH),
        (r"openrouter:[a-z_-]{1,40}", StripToolRule("provider-switch")),
        (r"orq:[a-z_-]{1,40}", StripToolRule("provider-switch")),
    ),
)

# --- controls -------------------------------------------------------------------------------------

CHOSEN = ObjectRule({"name": NAME})
_ALLOWED = ListRule(
    ObjectRule({"type": TYPE, "name": NAME, "function": CHOSEN, "custom": CHOSEN, "server_label": NAME})
)
CHOICE = UnionRule(
    text=EnumRule("none auto any required"),
    members=ObjectRule(
        {
            "type": TYPE,
            "name": NAME,
            "mode": KEYWORD,
            "function": CHOSEN,
            "custom": CHOSEN,
            "server_label": NAME,
            "tools": _ALLOWED,
            "allowed_tools": ObjectRule({"mode": KEYWORD, "tools": _ALLOWED}),
        }
    ),
)
"""The shape of a choice. A final check judges the choice itself, by the tools that are left."""
_SHAPE = ObjectRule({"name": NAME, "description": TEXT, "schema": SCHEMA, "strict": FLAG})
RESPONSE_FORMAT = VariantRule(
    {
        **JSON_FORMAT,
        "json_schema": ObjectRule({"type": TYPE, "json_schema": _SHAPE, "schema": SCHEMA}),
        "grammar": ObjectRule({"type": TYPE, "grammar": TEXT}),
        "regex": ObjectRule({"type": TYPE, "pattern": TEXT}),
    },
    absent=StripRule("unknown-value"),
    default=StripRule("unknown-value"),
)
TEMPLATE = ObjectRule(
    {
        **each_field("enable_thinking thinking preserve_thinking clear_thinking add_generation_prompt", FLAG),
        **each_field("reasoning_effort thinking_mode", KEYWORD),
        "thinking_budget": NUMBER,
    }
)
"""Variables of a server's own chat template. A template of the caller's would be a program that the
server runs, so only these pass.
"""
VOICE_NAME = PatternRule(r"(?!voice_)[A-Za-z0-9][A-Za-z0-9_.+()-]{0,63}")
VOICE = UnionRule(text=VOICE_NAME, members=ObjectRule({"id": RefuseRule("stored-file")}))
FINISH = (
    ToolChoiceCheck(TOOL, other_types=frozenset({"function", "custom", "auto", "none", "any", "required"})),
)
