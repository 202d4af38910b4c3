"""OpenAI's Chat Completions, as OpenAI and everybody who is compatible reads them
(docs/reference/isolation-requirements.md#openai-chat-completions and #compatible-providers).

Above it stands the judge; below it the walk.
"""

from __future__ import annotations

from typing import Any, cast

from modelplex.policy.bounded_tools import Bounded, BoundWords, Listed, Plugins
from modelplex.policy.leaves import (
    ARGUMENTS,
    BREAKPOINT,
    CACHE_CONTROL,
    DURATION,
    FLAG,
    FORMAT,
    GRAMMAR,
    ID,
    KIND,
    LEVEL,
    LEVEL_OR_FLAG,
    MIME,
    MODEL,
    NAME,
    NUMBER,
    REASONING,
    ROLE,
    SCHEMA,
    SEALED,
    TEXT,
    TEXTS,
    TOKEN_BIAS,
    EnumRule,
    PatternRule,
)
from modelplex.policy.path import Path
from modelplex.policy.tools import UNKNOWN_TOOL, LostTool, ToolChoiceRule, all_by, of, tools_of
from modelplex.policy.walk import (
    CustomRule,
    DeferredRule,
    ExceptRule,
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

# --- what all of OpenAI's forms share -------------------------------------------------------------

_MODERATED = ObjectRule({"mode": LEVEL})
ACCOUNT: dict[str, ValueRule] = {
    "metadata": StripRule("labels"),
    "user": StripRule("labels"),
    "client_metadata": StripRule("labels"),
    "safety_identifier": HashRule("safety_identifier"),
    "prompt_cache_key": HashRule("prompt_cache_key", of_value=True),
    "prompt_cache_retention": StripRule("cache-retention"),
    "prompt_cache_options": StripRule("cache-retention"),
    "service_tier": StripRule("price"),
    "access_programs": StripRule("price"),
    "moderation": StripRule(
        "second-model",
        ObjectRule({"model": known_model, "policy": ObjectRule({"input": _MODERATED, "output": _MODERATED})}),
    ),
}
_MODELS = UnionRule(items=ListRule(UnionRule(text=known_model, members=ObjectRule({"model": known_model}))))
_SEARCHES = StripRule("web-search", Bounded("web-search"))
SERVICES: dict[str, ValueRule] = {
    **all_by(
        "web_search_options search_parameters enable_search search_options search_settings",
        _SEARCHES,
    ),
    "search_domain_filter": StripRule("web-search", Listed("web-search")),
    **all_by(
        "search_mode search_recency_filter search_after_date_filter search_before_date_filter "
        "search_context_size return_images return_related_questions web_search",
        _SEARCHES,
    ),
    **all_by("models fallbacks", StripRule("second-model", _MODELS)),
    **all_by(
        "route provider transforms preset api_base base_url api_key api_version user_config model_list "
        "callbacks success_callback failure_callback",
        StripRule("provider-switch"),
    ),
    "plugins": StripRule(
        "provider-switch",
        Plugins(Bounded("web-search", BoundWords(allowed="include_domains", blocked="exclude_domains"))),
    ),
    "data_sources": RefuseRule("remote-data"),
    "disable_search": ExceptRule(True, StripRule("web-search")),
}
"""Members of single services (docs/reference/isolation-requirements.md#compatible-providers)."""
JSON_FORMAT: dict[str, ValueRule] = {
    "text": ObjectRule({"type": KIND}),
    "json_object": ObjectRule({"type": KIND, "schema": SCHEMA}),
}
STREAM_OPTIONS = ObjectRule(
    all_by("include_usage include_obfuscation continuous_usage_stats chunk_include_usage", FLAG)
)

# --- content --------------------------------------------------------------------------------------

_MARKS: dict[str, ValueRule] = {
    "type": KIND,
    "cache_control": CACHE_CONTROL,
    "prompt_cache_breakpoint": BREAKPOINT,
}
ADDRESS = UnionRule(
    text=inline,
    members=ObjectRule({"url": inline, "detail": LEVEL, "format": FORMAT, "mime_type": MIME, "fps": NUMBER}),
)
_CITED: dict[str, ValueRule] = {
    "type": KIND,
    "url": TEXT,
    "title": TEXT,
    "content": TEXT,
    "text": TEXT,
    "cited_text": TEXT,
    **all_by("start_index end_index index", NUMBER),
}
_LINK = ObjectRule({**_CITED, "url_citation": ObjectRule(_CITED)})
"""A link that an answer had. It is a label: no provider fetches what an answer cited."""
_PARSED_FILE = ObjectRule({"hash": ID, "name": NAME, "content": ListRule(DeferredRule(lambda: PART))})
ANNOTATIONS = ListRule(
    VariantRule(
        {
            "url_citation": _LINK,
            "file": ObjectRule({"type": KIND, "file": _PARSED_FILE}),
            **all_by("file_citation container_file_citation file_path", RefuseRule("stored-file")),
        },
    )
)
"""What an answer cited, or what a service read out of a file (OpenRouter): its pictures are
content, and judged like it.
"""
_TEXT = ObjectRule({**_MARKS, "text": TEXT, "annotations": ANNOTATIONS, "citations": ListRule(_LINK)})
_FILE = ObjectRule(
    {
        "filename": NAME,
        "file_name": NAME,
        "format": UnionRule(text=MIME),
        "mime_type": MIME,
        "file_id": RefuseRule("stored-file"),
        "file_data": inline_bytes,
        "file_url": inline,
        "url": inline,
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
                    text=inline_bytes, members=ObjectRule({"data": inline_bytes, "format": FORMAT})
                ),
            }
        ),
        "file": ObjectRule({**_MARKS, "file": _FILE, "file_id": RefuseRule("stored-file")}),
        "thinking": ObjectRule(
            {
                **_MARKS,
                "thinking": UnionRule(text=TEXT, items=ListRule(_TEXT)),
                "signature": SEALED,
                "closed": FLAG,
            }
        ),
        "redacted_thinking": ObjectRule({**_MARKS, "data": SEALED}),
        "reasoning": ObjectRule({**_MARKS, "text": TEXT, "reasoning": TEXT}),
    }
)
_CONTENT = UnionRule(text=TEXT, items=ListRule(PART))

# --- the history ----------------------------------------------------------------------------------

_SIGNED = ObjectRule({"google": ObjectRule({"thought_signature": SEALED, "thought": FLAG})})
_CALLED = ObjectRule({"name": NAME, "arguments": ARGUMENTS, "input": TEXT, "description": TEXT})
_TOOL_CALL = ObjectRule(
    {
        "id": ID,
        "type": EnumRule("function custom", must=True),
        "index": NUMBER,
        "function": _CALLED,
        "custom": _CALLED,
        "extra_content": _SIGNED,
        "thought_signature": SEALED,
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
        **all_by("text summary thinking", TEXT),
        **all_by("data signature", SEALED),
    }
)
_THINKING = ObjectRule(
    {"type": LEVEL, "thinking": TEXT, "signature": SEALED, "data": SEALED, "cache_control": CACHE_CONTROL}
)
MESSAGE = ObjectRule(
    {
        "role": ROLE,
        "content": _CONTENT,
        "audio": ObjectRule({"id": RefuseRule("stored-file")}),
        "name": NAME,
        "tool_calls": ListRule(_TOOL_CALL),
        "tool_call_id": ID,
        "function_call": _CALLED,
        **all_by("refusal reasoning reasoning_content reasoning_text thinking", TEXT),
        **all_by("reasoning_opaque thought_signature", SEALED),
        "reasoning_details": ListRule(_DETAIL),
        "thinking_blocks": ListRule(_THINKING),
        "annotations": ANNOTATIONS,
        "cache_control": CACHE_CONTROL,
        "extra_content": _SIGNED,
        **all_by("prefix partial is_error", FLAG),
        "phase": LEVEL,
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
_FUNCTION = ObjectRule({"type": KIND, "function": DECLARED, "cache_control": CACHE_CONTROL, "strict": FLAG})
_CUSTOM = ObjectRule({"name": NAME, "description": TEXT, "format": GRAMMAR})


def _untyped(walk: PolicyWalk, value: Any, path: Path) -> None:
    """Some clients leave the type of a function out."""
    check = _FUNCTION if isinstance(cast("Json", value).get("function"), dict) else UNKNOWN_TOOL
    check(walk, value, path)


_SEARCH = LostTool("web-search", Bounded("web-search"))
OPENROUTER_SEARCH = Bounded(
    "web-search", BoundWords(allowed="allowed_domains", blocked="excluded_domains", within="parameters")
)
TOOL = VariantRule(
    {
        "function": _FUNCTION,
        "custom": ObjectRule({"type": KIND, "custom": _CUSTOM, "cache_control": CACHE_CONTROL}),
        "web_search": _SEARCH,
        "web_search_premium": _SEARCH,
        "code_interpreter": LostTool("code-execution"),
        "image_generation": LostTool("image-generation"),
        "document_library": LostTool("stored-file"),
        "browser_search": _SEARCH,
        "builtin_function": _SEARCH,
        "web_extractor": LostTool("web-fetch", Bounded("web-fetch")),
        "openrouter:web_search": LostTool("provider-switch", OPENROUTER_SEARCH),
        "openrouter:web_fetch": LostTool("provider-switch", Bounded("web-fetch")),
        "mcp": RefuseRule("remote-mcp"),
    },
    absent=CustomRule(_untyped, _FUNCTION, UNKNOWN_TOOL),
    otherwise=UNKNOWN_TOOL,
    families=(
        (r"web_search_[a-z0-9_]{1,40}", _SEARCH),
        (r"openrouter:[a-z_-]{1,40}", LostTool("provider-switch")),
        (r"orq:[a-z_-]{1,40}", LostTool("provider-switch")),
    ),
)

# --- the top --------------------------------------------------------------------------------------

STOP = UnionRule(text=TEXT, items=TEXTS)
SAMPLING: dict[str, ValueRule] = {
    "model": MODEL,
    "stream": FLAG,
    "stream_options": STREAM_OPTIONS,
    "stop": STOP,
    **all_by(
        "temperature top_p top_k top_a min_p typical_p n best_of seed max_tokens max_completion_tokens presence_penalty "
        "frequency_penalty repetition_penalty repeat_penalty top_logprobs",
        NUMBER,
    ),
    "logit_bias": TOKEN_BIAS,
    "logprobs": UnionRule(plain=(bool, int)),
}
_CHOSEN = ObjectRule({"name": NAME})
_ALLOWED = ListRule(
    ObjectRule({"type": KIND, "name": NAME, "function": _CHOSEN, "custom": _CHOSEN, "server_label": NAME})
)
CHOICE = UnionRule(
    text=EnumRule("none auto any required"),
    members=ObjectRule(
        {
            "type": KIND,
            "name": NAME,
            "mode": LEVEL,
            "function": _CHOSEN,
            "custom": _CHOSEN,
            "server_label": NAME,
            "tools": _ALLOWED,
            "allowed_tools": ObjectRule({"mode": LEVEL, "tools": _ALLOWED}),
        }
    ),
)
"""The shape of a choice. Whether it may be made is judged at the end, when it is known which tools
are left.
"""
_SHAPE = ObjectRule({"name": NAME, "description": TEXT, "schema": SCHEMA, "strict": FLAG})
RESPONSE_FORMAT = VariantRule(
    {
        **JSON_FORMAT,
        "json_schema": ObjectRule({"type": KIND, "json_schema": _SHAPE, "schema": SCHEMA}),
        "grammar": ObjectRule({"type": KIND, "grammar": TEXT}),
        "regex": ObjectRule({"type": KIND, "pattern": TEXT}),
    },
    absent=StripRule("unknown-value"),
    otherwise=StripRule("unknown-value"),
)
_TEMPLATE = ObjectRule(
    {
        **all_by("enable_thinking thinking preserve_thinking clear_thinking add_generation_prompt", FLAG),
        **all_by("reasoning_effort thinking_mode", LEVEL),
        "thinking_budget": NUMBER,
    }
)
"""Variables of a server's own chat template. A template of the caller's would be a program that the
server runs, so only these pass.
"""
VOICE_NAME = PatternRule(r"(?!voice_)[A-Za-z0-9][A-Za-z0-9_.+()-]{0,63}")
VOICE = UnionRule(text=VOICE_NAME, members=ObjectRule({"id": RefuseRule("stored-file")}))
TOP = ObjectRule(
    of(
        SAMPLING,
        {
            "tool_choice": CHOICE,
            "functions": ListRule(DECLARED),
            "function_call": UnionRule(text=EnumRule("none auto"), members=_CHOSEN),
            "response_format": RESPONSE_FORMAT,
            "reasoning_effort": LEVEL,
            "reasoning": REASONING,
            "reasoning_format": LEVEL,
            "verbosity": LEVEL,
            "modalities": ListRule(EnumRule("text audio image")),
            "thinking": UnionRule(
                members=ObjectRule(
                    {
                        "type": LEVEL,
                        "budget_tokens": NUMBER,
                        "clear_thinking": FLAG,
                        "display": LEVEL,
                        "keep": LEVEL,
                        "effort": LEVEL,
                    }
                ),
                plain=(bool,),
            ),
            **all_by(
                "parallel_tool_calls enable_thinking reasoning_split include_reasoning tool_stream ignore_eos skip_special_tokens "
                "cache_prompt",
                FLAG,
            ),
            **all_by("thinking_budget min_tokens", NUMBER),
            "chat_template_kwargs": _TEMPLATE,
            "usage": ObjectRule({"include": FLAG}),
            "grammar": TEXT,
            "json_schema": SCHEMA,
            "cache_control": CACHE_CONTROL,
            "keep_alive": DURATION,
            "think": LEVEL_OR_FLAG,
            "messages": ListRule(MESSAGE),
            "tools": tools_of(TOOL),
            "prediction": ObjectRule({"type": LEVEL, "content": _CONTENT}),
            "audio": ObjectRule({"format": FORMAT, "voice": VOICE}),
            "store": ExceptRule(False, StripRule("store")),
        },
        ACCOUNT,
        SERVICES,
    )
)
FINISH = (ToolChoiceRule(TOOL, words=frozenset({"function", "custom", "auto", "none", "any", "required"})),)
