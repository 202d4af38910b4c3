"""The members of a Messages request, one row each."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from modelplex.core.request import Effort
from modelplex.dialects.anthropic import policy
from modelplex.dialects.anthropic.messages_in import AnthropicCacheControl, read_cache
from modelplex.dialects.core.fields import Field, FieldTable, rules_of, texts, unread
from modelplex.policy.containers import ListRule, ObjectRule
from modelplex.policy.leaves import FLAG, MODEL, NUMBER, TEXTS
from modelplex.policy.tools import tool_list
from modelplex.policy.value_rules import HashRule, RefuseRule, StripRule

TIERS = {"auto": "auto", "default": "standard_only"}
"""What OpenAI's tiers are called here."""
_THINKING = (
    Field(
        "type",
        policy.THINKING.fields["type"],
        "reasoning.mode",
        Literal["adaptive", "between_tools", "disabled", "enabled"],
        writes=False,
    ),
    Field("budget_tokens", policy.THINKING.fields["budget_tokens"], "reasoning.budget", int, writes=False),
    Field("display", policy.THINKING.fields["display"], "reasoning.show", str, writes=False),
    Field("block_binding", policy.THINKING.fields["block_binding"]),
)
_OUTPUT = (
    Field("effort", policy.OUTPUT.fields["effort"], "reasoning.effort", Effort, writes=False),
    Field("format", policy.OUTPUT.fields["format"], "format"),
    Field("task_budget", policy.OUTPUT.fields["task_budget"]),
)
_METADATA = (Field("user_id", HashRule("metadata.user_id"), "user", str),)
ROWS: tuple[Field, ...] = (
    Field("model", MODEL, "model"),
    Field("stream", FLAG, "stream"),
    Field("messages", ListRule(policy.MESSAGE), "messages"),
    Field("system", policy.CONTENT, "messages"),
    Field("tools", tool_list(policy.TOOL), "tools"),
    Field("tool_choice", policy.CHOICE, "choice"),
    Field("max_tokens", NUMBER, "max_tokens", Annotated[int, Meta(ge=0)], writes=False),
    Field("temperature", NUMBER, "sampling.temperature", float, most=1.0),
    Field("top_p", NUMBER, "sampling.top_p", float),
    Field("top_k", NUMBER, "sampling.top_k", int),
    Field("stop_sequences", TEXTS, "sampling.stop", list[str], texts),
    Field("thinking", policy.THINKING, "reasoning", inside=_THINKING),
    Field("output_config", policy.OUTPUT, inside=_OUTPUT),
    Field("output_format", policy.FORMAT, "format"),
    Field("cache_control", policy.CACHE_MARK, "cache", AnthropicCacheControl, read_cache, writes=False),
    Field("metadata", ObjectRule(rules_of(_METADATA), default=StripRule("labels")), inside=_METADATA),
    Field("service_tier", StripRule("price"), "tier", str, foreign=TIERS),
    *unread("fallback_credit_token billing_policy speed inference_geo", StripRule("price")),
    Field("context_management", ObjectRule({"edits": ListRule(policy.EDITS)})),
    Field("compaction", policy.COMPACTION),
    Field("safeguards", policy.SAFEGUARDS),
    Field("mcp_servers", RefuseRule("remote-mcp")),
    Field("container", RefuseRule("code-execution")),
    Field("thread", RefuseRule("stored-state")),
    Field("diagnostics", StripRule("stored-state")),
    Field("fallbacks", StripRule("second-model", policy.FALLBACKS)),
    *unread("betas anthropic_beta", StripRule("beta", policy.BETAS)),
    *unread("workspace_id user_profile_id", StripRule("identity")),
)
FIELDS = FieldTable(
    ROWS,
    kin=frozenset({"anthropic_messages"}),
    reasons={
        "tier": "this service has no such tier",
        "format.description": "the form of an answer is not described here",
    },
)
