"""Ollama's own form (docs/reference/isolation-requirements.md#compatible-providers): a
conversation, a prompt, and vectors.

Above it stands the judge; below it the walk. Its server runs the model beside the gateway; what it
reads of a request is short, and all of it stands here.
"""

from __future__ import annotations

from modelplex.policy.leaves import (
    ARGUMENTS,
    DURATION,
    FLAG,
    ID,
    KIND,
    LEVEL,
    LEVEL_OR_FLAG,
    MODEL,
    NAME,
    NUMBER,
    NUMBERS,
    ROLE,
    SCHEMA,
    TEXT,
    TEXTS,
    EnumRule,
    PatternRule,
)
from modelplex.policy.tools import UNKNOWN_TOOL, all_by, of, tools_of
from modelplex.policy.walk import ListRule, ObjectRule, UnionRule, ValueRule, VariantRule, inline_bytes

_DECLARED = ObjectRule(
    {"type": LEVEL, "name": NAME, "description": TEXT, "parameters": SCHEMA, "strict": FLAG}
)
_FUNCTION = ObjectRule({"type": KIND, "function": _DECLARED})
_TOOL = VariantRule({"function": _FUNCTION}, absent=_FUNCTION, otherwise=UNKNOWN_TOOL)
_IMAGES = ListRule(inline_bytes)
OPTIONS = ObjectRule(
    {
        **all_by(
            "num_ctx num_batch num_gpu main_gpu num_thread num_keep num_predict seed top_k top_p min_p typical_p tfs_z repeat_last_n "
            "temperature repeat_penalty presence_penalty frequency_penalty mirostat mirostat_tau mirostat_eta draft_num_predict",
            NUMBER,
        ),
        **all_by(
            "use_mmap use_mlock penalize_newline numa low_vram f16_kv logits_all vocab_only embedding_only",
            FLAG,
        ),
        "stop": UnionRule(text=TEXT, items=TEXTS),
    }
)
"""https://github.com/ollama/ollama/blob/main/docs/modelfile.mdx#valid-parameters-and-values and its
runner's own.
"""
_SHARED: dict[str, ValueRule] = {
    "model": MODEL,
    "format": UnionRule(text=PatternRule("json|"), members=SCHEMA),
    "options": OPTIONS,
    "keep_alive": DURATION,
    "think": LEVEL_OR_FLAG,
    "top_logprobs": NUMBER,
    **all_by("stream logprobs truncate shift", FLAG),
}
_CALLED = ObjectRule({"name": NAME, "arguments": ARGUMENTS, "index": NUMBER, "description": TEXT})
_TOOL_CALL = ObjectRule({"id": ID, "type": EnumRule("function", must=True), "function": _CALLED})
_MESSAGE = ObjectRule(
    {
        "role": ROLE,
        **all_by("content thinking", TEXT),
        "tool_calls": ListRule(_TOOL_CALL),
        "tool_name": NAME,
        "tool_call_id": ID,
        "images": _IMAGES,
    }
)
CHAT = ObjectRule(of(_SHARED, {"messages": ListRule(_MESSAGE), "tools": tools_of(_TOOL)}))
GENERATE = ObjectRule(
    of(
        _SHARED,
        {
            **all_by("prompt suffix system template", TEXT),
            "context": NUMBERS,
            "raw": FLAG,
            **all_by("width height steps", NUMBER),
            "images": _IMAGES,
        },
    )
)
EMBED = ObjectRule(
    {
        "model": MODEL,
        "input": UnionRule(text=TEXT, items=TEXTS),
        "truncate": FLAG,
        "dimensions": NUMBER,
        "options": OPTIONS,
        "keep_alive": DURATION,
    }
)
