"""OpenAI's Chat Completions, as OpenAI and everybody who is compatible reads them (isolation.md 5.3 and 5.6).

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
    Pattern,
    Words,
)
from modelplex.policy.path import Path
from modelplex.policy.tools import UNKNOWN_TOOL, Choice, LostTool, all_by, of, tools_of
from modelplex.policy.walk import (
    Each,
    Forms,
    Gone,
    Hashed,
    Json,
    Kinds,
    Later,
    Look,
    Members,
    Never,
    Node,
    Unless,
    Walk,
    inline,
    inline_bytes,
    known_model,
)

# --- what all of OpenAI's forms share ------------------------------------------------------------------------------------------------------------------------------------------

_MODERATED = Members({"mode": LEVEL})
ACCOUNT: dict[str, Node] = {
    "metadata": Gone("labels"),
    "user": Gone("labels"),
    "client_metadata": Gone("labels"),
    "safety_identifier": Hashed("safety_identifier"),
    "prompt_cache_key": Hashed("prompt_cache_key", of_value=True),
    "prompt_cache_retention": Gone("cache-retention"),
    "prompt_cache_options": Gone("cache-retention"),
    "service_tier": Gone("price"),
    "access_programs": Gone("price"),
    "moderation": Gone(
        "second-model",
        Members({"model": known_model, "policy": Members({"input": _MODERATED, "output": _MODERATED})}),
    ),
}
_MODELS = Forms(items=Each(Forms(text=known_model, members=Members({"model": known_model}))))
_SEARCHES = Gone("web-search", Bounded("web-search"))
SERVICES: dict[str, Node] = {
    **all_by(
        "web_search_options search_parameters enable_search search_options search_settings",
        _SEARCHES,
    ),
    "search_domain_filter": Gone("web-search", Listed("web-search")),
    **all_by(
        "search_mode search_recency_filter search_after_date_filter search_before_date_filter "
        "search_context_size return_images return_related_questions web_search",
        _SEARCHES,
    ),
    **all_by("models fallbacks", Gone("second-model", _MODELS)),
    **all_by(
        "route provider transforms preset api_base base_url api_key api_version user_config model_list "
        "callbacks success_callback failure_callback",
        Gone("provider-switch"),
    ),
    "plugins": Gone(
        "provider-switch",
        Plugins(Bounded("web-search", BoundWords(allowed="include_domains", blocked="exclude_domains"))),
    ),
    "data_sources": Never("remote-data"),
    "disable_search": Unless(True, Gone("web-search")),
}
"""Members of single services (isolation.md 5.6)."""
JSON_FORMAT: dict[str, Node] = {
    "text": Members({"type": KIND}),
    "json_object": Members({"type": KIND, "schema": SCHEMA}),
}
STREAM_OPTIONS = Members(
    all_by("include_usage include_obfuscation continuous_usage_stats chunk_include_usage", FLAG)
)

# --- content -------------------------------------------------------------------------------------------------------------------------------------------------------------------

_MARKS: dict[str, Node] = {
    "type": KIND,
    "cache_control": CACHE_CONTROL,
    "prompt_cache_breakpoint": BREAKPOINT,
}
ADDRESS = Forms(
    text=inline,
    members=Members({"url": inline, "detail": LEVEL, "format": FORMAT, "mime_type": MIME, "fps": NUMBER}),
)
_CITED: dict[str, Node] = {
    "type": KIND,
    "url": TEXT,
    "title": TEXT,
    "content": TEXT,
    "text": TEXT,
    "cited_text": TEXT,
    **all_by("start_index end_index index", NUMBER),
}
_LINK = Members({**_CITED, "url_citation": Members(_CITED)})
"""A link that an answer had. It is a label: no provider fetches what an answer cited."""
_PARSED_FILE = Members({"hash": ID, "name": NAME, "content": Each(Later(lambda: PART))})
ANNOTATIONS = Each(
    Kinds(
        {
            "url_citation": _LINK,
            "file": Members({"type": KIND, "file": _PARSED_FILE}),
            **all_by("file_citation container_file_citation file_path", Never("stored-file")),
        },
    )
)
"""What an answer cited, or what a service read out of a file (OpenRouter): its pictures are content, and judged like it."""
_TEXT = Members({**_MARKS, "text": TEXT, "annotations": ANNOTATIONS, "citations": Each(_LINK)})
_FILE = Members(
    {
        "filename": NAME,
        "file_name": NAME,
        "format": Forms(text=MIME),
        "mime_type": MIME,
        "file_id": Never("stored-file"),
        "file_data": inline_bytes,
        "file_url": inline,
        "url": inline,
    }
)
PART: Kinds = Kinds(
    {
        "text": _TEXT,
        "refusal": Members({**_MARKS, "refusal": TEXT}),
        "image_url": Members({**_MARKS, "image_url": ADDRESS}),
        "video_url": Members({**_MARKS, "video_url": ADDRESS, "fps": NUMBER}),
        "audio_url": Members({**_MARKS, "audio_url": ADDRESS}),
        "document_url": Members({**_MARKS, "document_url": ADDRESS, "document_name": NAME}),
        "input_audio": Members(
            {
                **_MARKS,
                "input_audio": Forms(
                    text=inline_bytes, members=Members({"data": inline_bytes, "format": FORMAT})
                ),
            }
        ),
        "file": Members({**_MARKS, "file": _FILE, "file_id": Never("stored-file")}),
        "thinking": Members(
            {**_MARKS, "thinking": Forms(text=TEXT, items=Each(_TEXT)), "signature": SEALED, "closed": FLAG}
        ),
        "redacted_thinking": Members({**_MARKS, "data": SEALED}),
        "reasoning": Members({**_MARKS, "text": TEXT, "reasoning": TEXT}),
    }
)
_CONTENT = Forms(text=TEXT, items=Each(PART))

# --- the history ---------------------------------------------------------------------------------------------------------------------------------------------------------------

_SIGNED = Members({"google": Members({"thought_signature": SEALED, "thought": FLAG})})
_CALLED = Members({"name": NAME, "arguments": ARGUMENTS, "input": TEXT, "description": TEXT})
_TOOL_CALL = Members(
    {
        "id": ID,
        "type": Words("function custom", must=True),
        "index": NUMBER,
        "function": _CALLED,
        "custom": _CALLED,
        "extra_content": _SIGNED,
        "thought_signature": SEALED,
        "cache_control": CACHE_CONTROL,
    }
)
_DETAIL = Members(
    {
        "type": Words(
            "reasoning.text reasoning.summary reasoning.encrypted reasoning.server_tool_call thinking text"
        ),
        "id": ID,
        "format": Pattern(r"[a-z0-9][a-z0-9.-]{0,39}"),
        "index": NUMBER,
        **all_by("text summary thinking", TEXT),
        **all_by("data signature", SEALED),
    }
)
_THINKING = Members(
    {"type": LEVEL, "thinking": TEXT, "signature": SEALED, "data": SEALED, "cache_control": CACHE_CONTROL}
)
MESSAGE = Members(
    {
        "role": ROLE,
        "content": _CONTENT,
        "audio": Members({"id": Never("stored-file")}),
        "name": NAME,
        "tool_calls": Each(_TOOL_CALL),
        "tool_call_id": ID,
        "function_call": _CALLED,
        **all_by("refusal reasoning reasoning_content reasoning_text thinking", TEXT),
        **all_by("reasoning_opaque thought_signature", SEALED),
        "reasoning_details": Each(_DETAIL),
        "thinking_blocks": Each(_THINKING),
        "annotations": ANNOTATIONS,
        "cache_control": CACHE_CONTROL,
        "extra_content": _SIGNED,
        **all_by("prefix partial is_error", FLAG),
        "phase": LEVEL,
    }
)

# --- tools ---------------------------------------------------------------------------------------------------------------------------------------------------------------------

DECLARED = Members(
    {
        "name": NAME,
        "description": TEXT,
        "parameters": SCHEMA,
        "input_schema": SCHEMA,
        "strict": FLAG,
        "cache_control": CACHE_CONTROL,
    }
)
_FUNCTION = Members({"type": KIND, "function": DECLARED, "cache_control": CACHE_CONTROL, "strict": FLAG})
_CUSTOM = Members({"name": NAME, "description": TEXT, "format": GRAMMAR})


def _untyped(walk: Walk, value: Any, path: Path) -> None:
    """Some clients leave the type of a function out."""
    check = _FUNCTION if isinstance(cast("Json", value).get("function"), dict) else UNKNOWN_TOOL
    check(walk, value, path)


_SEARCH = LostTool("web-search", Bounded("web-search"))
OPENROUTER_SEARCH = Bounded(
    "web-search", BoundWords(allowed="allowed_domains", blocked="excluded_domains", within="parameters")
)
TOOL = Kinds(
    {
        "function": _FUNCTION,
        "custom": Members({"type": KIND, "custom": _CUSTOM, "cache_control": CACHE_CONTROL}),
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
        "mcp": Never("remote-mcp"),
    },
    absent=Look(_untyped, _FUNCTION, UNKNOWN_TOOL),
    otherwise=UNKNOWN_TOOL,
    families=(
        (r"web_search_[a-z0-9_]{1,40}", _SEARCH),
        (r"openrouter:[a-z_-]{1,40}", LostTool("provider-switch")),
        (r"orq:[a-z_-]{1,40}", LostTool("provider-switch")),
    ),
)

# --- the top -------------------------------------------------------------------------------------------------------------------------------------------------------------------

STOP = Forms(text=TEXT, items=TEXTS)
SAMPLING: dict[str, Node] = {
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
    "logprobs": Forms(plain=(bool, int)),
}
_CHOSEN = Members({"name": NAME})
_ALLOWED = Each(
    Members({"type": KIND, "name": NAME, "function": _CHOSEN, "custom": _CHOSEN, "server_label": NAME})
)
CHOICE = Forms(
    text=Words("none auto any required"),
    members=Members(
        {
            "type": KIND,
            "name": NAME,
            "mode": LEVEL,
            "function": _CHOSEN,
            "custom": _CHOSEN,
            "server_label": NAME,
            "tools": _ALLOWED,
            "allowed_tools": Members({"mode": LEVEL, "tools": _ALLOWED}),
        }
    ),
)
"""The shape of a choice. Whether it may be made is judged at the end, when it is known which tools are left."""
_SHAPE = Members({"name": NAME, "description": TEXT, "schema": SCHEMA, "strict": FLAG})
RESPONSE_FORMAT = Kinds(
    {
        **JSON_FORMAT,
        "json_schema": Members({"type": KIND, "json_schema": _SHAPE, "schema": SCHEMA}),
        "grammar": Members({"type": KIND, "grammar": TEXT}),
        "regex": Members({"type": KIND, "pattern": TEXT}),
    },
    absent=Gone("unknown-value"),
    otherwise=Gone("unknown-value"),
)
_TEMPLATE = Members(
    {
        **all_by("enable_thinking thinking preserve_thinking clear_thinking add_generation_prompt", FLAG),
        **all_by("reasoning_effort thinking_mode", LEVEL),
        "thinking_budget": NUMBER,
    }
)
"""Variables of a server's own chat template. A template of the caller's would be a program that the server runs, so only these pass."""
VOICE_NAME = Pattern(r"(?!voice_)[A-Za-z0-9][A-Za-z0-9_.+()-]{0,63}")
VOICE = Forms(text=VOICE_NAME, members=Members({"id": Never("stored-file")}))
TOP = Members(
    of(
        SAMPLING,
        {
            "tool_choice": CHOICE,
            "functions": Each(DECLARED),
            "function_call": Forms(text=Words("none auto"), members=_CHOSEN),
            "response_format": RESPONSE_FORMAT,
            "reasoning_effort": LEVEL,
            "reasoning": REASONING,
            "reasoning_format": LEVEL,
            "verbosity": LEVEL,
            "modalities": Each(Words("text audio image")),
            "thinking": Forms(
                members=Members(
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
            "usage": Members({"include": FLAG}),
            "grammar": TEXT,
            "json_schema": SCHEMA,
            "cache_control": CACHE_CONTROL,
            "keep_alive": DURATION,
            "think": LEVEL_OR_FLAG,
            "messages": Each(MESSAGE),
            "tools": tools_of(TOOL),
            "prediction": Members({"type": LEVEL, "content": _CONTENT}),
            "audio": Members({"format": FORMAT, "voice": VOICE}),
            "store": Unless(False, Gone("store")),
        },
        ACCOUNT,
        SERVICES,
    )
)
FINISH = (Choice(TOOL, words=frozenset({"function", "custom", "auto", "none", "any", "required"})),)
