"""The members of a Responses request, one row each."""

from __future__ import annotations

from modelplex.core.request import Effort
from modelplex.dialects.core.fields import Field, FieldTable, unread
from modelplex.dialects.openai_chat.fields import ACCOUNT, KIN, SERVICES, STOP_RULE, STREAM_OPTIONS
from modelplex.dialects.openai_chat.policy import CHOICE
from modelplex.dialects.openai_responses import policy
from modelplex.policy.containers import ListRule, ObjectRule
from modelplex.policy.leaves import FLAG, KEYWORD, MODEL, NUMBER, REASONING, EnumRule, PatternRule
from modelplex.policy.tools import tool_list
from modelplex.policy.value_rules import OverwriteRule, RefuseRule, StripRule

_REASONING = (
    Field("effort", KEYWORD, "reasoning.effort", Effort, writes=False),
    Field("summary", KEYWORD, "reasoning.show", str, writes=False),
    Field("generate_summary", KEYWORD, "reasoning.show", str, writes=False),
    *unread("context mode", KEYWORD),
    Field("max_tokens", NUMBER),
    *unread("enabled exclude", FLAG),
)
_TEXT = (
    Field("format", policy.TEXT_FORMAT.fields["format"], "format"),
    Field("verbosity", KEYWORD, "verbosity", str),
)
ROWS: tuple[Field, ...] = (
    Field("type", EnumRule("response.create response.steer", required=True)),
    Field("model", MODEL, "model"),
    Field("stream", FLAG, "stream"),
    STREAM_OPTIONS,
    Field("input", policy.ITEMS, "messages"),
    Field("instructions", policy.ITEMS, "messages"),
    Field("tools", tool_list(policy.TOOL), "tools"),
    Field("tool_choice", CHOICE, "choice"),
    Field("parallel_tool_calls", FLAG, "parallel", bool, writes=False),
    Field("max_output_tokens", NUMBER, "max_tokens", int),
    Field("temperature", NUMBER, "sampling.temperature", float),
    Field("top_p", NUMBER, "sampling.top_p", float),
    Field("top_logprobs", NUMBER, "sampling.top_logprobs", int),
    Field("include", ListRule(policy.INCLUDED), "sampling.logprobs"),
    Field("text", policy.TEXT_FORMAT, inside=_TEXT),
    Field("reasoning", REASONING, "reasoning", inside=_REASONING),
    *ACCOUNT,
    *unread("max_tool_calls top_k min_p seed presence_penalty frequency_penalty", NUMBER),
    Field("stop", STOP_RULE),
    Field("generate", FLAG),
    Field("truncation", KEYWORD),
    Field("context_management", ListRule(ObjectRule({"type": KEYWORD, "compact_threshold": NUMBER}))),
    Field("image", ObjectRule({"context_compression": KEYWORD})),
    Field("stream_id", PatternRule(r"[A-Za-z0-9_-]{1,64}")),
    Field("store", OverwriteRule("store", value=False)),
    Field("background", RefuseRule("background", harmless=(False,))),
    Field("background_options", StripRule("background")),
    *unread("previous_response_id conversation", policy.STATE),
    Field("prompt", policy.PROMPT),
    Field("multi_agent", StripRule("provider-agents")),
    *SERVICES,
)
FIELDS = FieldTable(
    ROWS,
    kin=KIN,
    reasons={
        "cache": "there are cache markers on parts only here",
        "metadata": "this dialect means something else by it",
        "tier": "this service has no such tier",
        "sampling.stop": "this provider has no stop sequences",
        "reasoning.mode": "thinking is turned on by an effort here",
    },
)
COMPACT_BODY = ObjectRule(FIELDS.policy.fields | {"store": StripRule("store")})
"""The rule of a body of /responses/compact, which has no member `store`."""
COUNT_BODY = ObjectRule(FIELDS.policy.fields | {"store": StripRule("store")})
"""The rule of a body that is only counted: it has no member `store`."""
