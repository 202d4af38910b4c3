"""Ollama's own form (docs/reference/isolation-requirements.md#compatible-providers): a
conversation, a prompt, and vectors.

Above it stands the judge; below it the walk. Its server runs the model beside the gateway; what it
reads of a request is short, and all of it stands here.
"""

from __future__ import annotations

from modelplex.policy.containers import ListRule, ObjectRule, UnionRule, VariantRule
from modelplex.policy.leaves import (
    ARGUMENTS,
    DURATION,
    FLAG,
    ID,
    KEYWORD,
    KEYWORD_OR_FLAG,
    MODEL,
    NAME,
    NUMBER,
    NUMBERS,
    ROLE,
    SCHEMA,
    TEXT,
    TEXTS,
    TYPE,
    EnumRule,
    PatternRule,
)
from modelplex.policy.tools import UNKNOWN_TOOL, each_field, merge, tool_list
from modelplex.policy.value_rules import INLINE_BYTES
from modelplex.policy.walk import ValueRule

_DECLARED = ObjectRule(
    {"type": KEYWORD, "name": NAME, "description": TEXT, "parameters": SCHEMA, "strict": FLAG}
)
_FUNCTION = ObjectRule({"type": TYPE, "function": _DECLARED})
_TOOL = VariantRule({"function": _FUNCTION}, absent=_FUNCTION, default=UNKNOWN_TOOL)
_IMAGES = ListRule(INLINE_BYTES)
OPTIONS = ObjectRule(
    {
        **each_field(
            "num_ctx num_batch num_gpu main_gpu num_thread num_keep num_predict seed top_k top_p min_p typical_p tfs_z repeat_last_n "
            "temperature repeat_penalty presence_penalty frequency_penalty mirostat mirostat_tau mirostat_eta draft_num_predict",
            NUMBER,
        ),
        **each_field(
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
    "think": KEYWORD_OR_FLAG,
    "top_logprobs": NUMBER,
    **each_field("stream logprobs truncate shift", FLAG),
}
_CALLED = ObjectRule({"name": NAME, "arguments": ARGUMENTS, "index": NUMBER, "description": TEXT})
_TOOL_CALL = ObjectRule({"id": ID, "type": EnumRule("function", required=True), "function": _CALLED})
_MESSAGE = ObjectRule(
    {
        "role": ROLE,
        **each_field("content thinking", TEXT),
        "tool_calls": ListRule(_TOOL_CALL),
        "tool_name": NAME,
        "tool_call_id": ID,
        "images": _IMAGES,
    }
)
CHAT = ObjectRule(merge(_SHARED, {"messages": ListRule(_MESSAGE), "tools": tool_list(_TOOL)}))
GENERATE = ObjectRule(
    merge(
        _SHARED,
        {
            **each_field("prompt suffix system template", TEXT),
            "context": NUMBERS,
            "raw": FLAG,
            **each_field("width height steps", NUMBER),
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
