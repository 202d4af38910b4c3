"""OpenAI's Chat Completions, as OpenAI and everybody who is compatible reads them (isolation.md 5.3 and 5.6).

Above it stands the judge; below it the walk.
"""

from __future__ import annotations

from typing import Any, cast

from modelplex.policy._path import Path
from modelplex.policy._tools import UNKNOWN_TOOL, Choice, LostTool, all_by, of, passing, tools_of
from modelplex.policy._walk import (
    Each,
    Forms,
    Gone,
    Hashed,
    Json,
    Kinds,
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
    "moderation": Gone("second-model", Members(of(passing("policy"), {"model": known_model}))),
}
_MODELS = Forms(items=Each(Forms(text=known_model, members=Members({"model": known_model}, otherwise=None))))
SERVICES: dict[str, Node] = {
    **all_by(
        "web_search_options search_parameters enable_search search_options search_settings",
        Gone("web-search"),
    ),
    **all_by(
        "search_mode search_domain_filter search_recency_filter search_after_date_filter search_before_date_filter "
        "search_context_size return_images return_related_questions web_search",
        Gone("web-search"),
    ),
    **all_by("models fallbacks", Gone("second-model", _MODELS)),
    **all_by(
        "plugins route provider transforms preset api_base base_url api_key api_version user_config model_list "
        "callbacks success_callback failure_callback",
        Gone("provider-switch"),
    ),
    "data_sources": Never("remote-data"),
    "disable_search": Unless(True, Gone("web-search")),
}
"""Members of single services (isolation.md 5.6)."""

# --- content -------------------------------------------------------------------------------------------------------------------------------------------------------------------

_MARKS = passing("type cache_control prompt_cache_breakpoint")
_ADDRESS = Forms(text=inline, members=Members(of(passing("detail format mime_type fps"), {"url": inline})))
_TEXT = Members(of(_MARKS, passing("text annotations citations")))
_FILE = Members(
    of(
        passing("filename format file_name mime_type"),
        {"file_id": Never("stored-file"), "file_data": inline_bytes, "file_url": inline, "url": inline},
    )
)
PART = Kinds(
    {
        "text": _TEXT,
        "refusal": Members(of(_MARKS, passing("refusal"))),
        "image_url": Members(of(_MARKS, {"image_url": _ADDRESS})),
        "video_url": Members(of(_MARKS, passing("fps"), {"video_url": _ADDRESS})),
        "audio_url": Members(of(_MARKS, {"audio_url": _ADDRESS})),
        "document_url": Members(of(_MARKS, passing("document_name"), {"document_url": _ADDRESS})),
        "input_audio": Members(
            of(
                _MARKS,
                {
                    "input_audio": Forms(
                        text=inline_bytes, members=Members(of(passing("format"), {"data": inline_bytes}))
                    )
                },
            )
        ),
        "file": Members(of(_MARKS, {"file": _FILE, "file_id": Never("stored-file")})),
        "thinking": Members(
            of(_MARKS, {"thinking": Forms(text=None, items=Each(_TEXT))}, passing("signature closed"))
        ),
        "redacted_thinking": Members(of(_MARKS, passing("data"))),
        "reasoning": Members(of(_MARKS, passing("text reasoning"))),
    }
)
_CONTENT = Forms(text=None, items=Each(PART))
MESSAGE = Members(
    of(
        passing(
            "role name tool_calls tool_call_id function_call refusal reasoning reasoning_content reasoning_details "
            "reasoning_text reasoning_opaque thinking thinking_blocks annotations cache_control extra_content "
            "thought_signature prefix partial phase is_error"
        ),
        {"content": _CONTENT, "audio": Members({"id": Never("stored-file")})},
    )
)

# --- tools ---------------------------------------------------------------------------------------------------------------------------------------------------------------------

_FUNCTION = Members(passing("type function cache_control strict"))


def _untyped(walk: Walk, value: Any, path: Path) -> None:
    """Some clients leave the type of a function out."""
    check = _FUNCTION if isinstance(cast("Json", value).get("function"), dict) else UNKNOWN_TOOL
    check(walk, value, path)


TOOL = Kinds(
    {
        "function": _FUNCTION,
        "custom": Members(passing("type custom cache_control")),
        "web_search": LostTool("web-search"),
        "web_search_premium": LostTool("web-search"),
        "code_interpreter": LostTool("code-execution"),
        "image_generation": LostTool("image-generation"),
        "document_library": LostTool("stored-file"),
        "browser_search": LostTool("web-search"),
        "builtin_function": LostTool("web-search"),
        "web_extractor": LostTool("web-fetch"),
        "mcp": Never("remote-mcp"),
    },
    absent=_untyped,
    otherwise=UNKNOWN_TOOL,
    families=(("openrouter:", LostTool("provider-switch")), ("orq:", LostTool("provider-switch"))),
)

SAMPLING = passing(
    "model stream stream_options temperature top_p top_k top_a min_p typical_p n best_of stop seed max_tokens max_completion_tokens "
    "presence_penalty frequency_penalty repetition_penalty repeat_penalty logit_bias logprobs top_logprobs"
)
_VOICE = Forms(text=None, members=Members({"id": Never("stored-file")}))
TOP = Members(
    of(
        SAMPLING,
        passing(
            "tool_choice functions function_call parallel_tool_calls response_format reasoning_effort reasoning verbosity modalities "
            "thinking enable_thinking thinking_budget reasoning_format reasoning_split include_reasoning chat_template_kwargs usage "
            "tool_stream grammar json_schema min_tokens ignore_eos skip_special_tokens cache_prompt cache_control keep_alive think"
        ),
        {
            "messages": Each(MESSAGE),
            "tools": tools_of(TOOL),
            "prediction": Members(of(passing("type"), {"content": _CONTENT})),
            "audio": Members(of(passing("format"), {"voice": _VOICE})),
            "store": Unless(False, Gone("store")),
        },
        ACCOUNT,
        SERVICES,
    )
)
FINISH = (Choice(TOOL, words=frozenset({"function", "custom", "auto", "none", "any", "required"})),)
