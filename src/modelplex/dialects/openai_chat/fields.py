"""The members of a chat completions request, one row each.

A row without a leaf is a member of a single service, or one that only the policy acts on.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from modelplex.core.request import CacheBreakpoint, Effort
from modelplex.dialects.core.fields import Field, FieldTable, rows_of, rules_of, texts, unread
from modelplex.dialects.core.ledger import Ledger
from modelplex.dialects.openai_chat import policy
from modelplex.dialects.openai_chat.messages_in import ChatCacheControl
from modelplex.policy.containers import ListRule, ObjectRule, UnionRule
from modelplex.policy.leaves import (
    CACHE_CONTROL,
    DURATION,
    FLAG,
    FORMAT,
    KEYWORD,
    KEYWORD_OR_FLAG,
    MODEL,
    NUMBER,
    SCHEMA,
    TEXT,
    TEXTS,
    TOKEN_BIAS,
    EnumRule,
    TokenListRule,
)
from modelplex.policy.tools import tool_list
from modelplex.policy.value_rules import PERMITTED_MODEL, ExceptRule, HashRule, StripRule
from modelplex.policy.walk import UNKNOWN_FORM

TIERS = {"auto": "auto", "standard_only": "default"}
"""What Anthropic's tiers are called here."""
KIN = frozenset({"openai_chat", "openai_responses"})
"""Dialects whose `metadata` and `service_tier` mean the same as here."""
MAX_STOPS = 4
"""Stop sequences that OpenAI takes."""

# --- rows that several of OpenAI's forms have ---------------------------------------------------

_MODERATED = ObjectRule({"mode": KEYWORD})
ACCOUNT: tuple[Field, ...] = (
    Field("safety_identifier", HashRule("safety_identifier"), "user", str, writes=False, rides=True),
    Field("user", StripRule("labels"), "user", str, writes=False, rides=True),
    Field("metadata", StripRule("labels"), "metadata", msgspec.Raw, foreign={}),
    Field("prompt_cache_key", HashRule("prompt_cache_key", of_value=True), "cache_key", str),
    Field("service_tier", StripRule("price"), "tier", str, foreign=TIERS),
    *unread("client_metadata", StripRule("labels")),
    *unread("prompt_cache_retention prompt_cache_options", StripRule("cache-retention")),
    *unread("access_programs", StripRule("price")),
    Field(
        "moderation",
        StripRule(
            "second-model",
            ObjectRule(
                {"model": PERMITTED_MODEL, "policy": ObjectRule({"input": _MODERATED, "output": _MODERATED})}
            ),
        ),
    ),
)
SERVICES = rows_of(policy.SERVICES)
"""Members of single services (docs/reference/isolation-requirements.md#compatible-providers)."""
_STREAM_OPTIONS = (
    Field("include_usage", FLAG, "include_usage"),
    *unread("include_obfuscation continuous_usage_stats chunk_include_usage", FLAG),
)
STREAM_OPTIONS = Field("stream_options", ObjectRule(rules_of(_STREAM_OPTIONS)), inside=_STREAM_OPTIONS)
STOP_RULE = UnionRule(text=TEXT, items=TEXTS)
SAMPLING: tuple[Field, ...] = (
    Field("model", MODEL, "model"),
    Field("stream", FLAG, "stream"),
    STREAM_OPTIONS,
    Field("temperature", NUMBER, "sampling.temperature", float),
    Field("top_p", NUMBER, "sampling.top_p", float),
    Field("top_k", NUMBER, "sampling.top_k", int),
    Field("min_p", NUMBER, "sampling.min_p", float),
    Field("seed", NUMBER, "sampling.seed", int),
    Field("presence_penalty", NUMBER, "sampling.presence_penalty", float),
    Field("frequency_penalty", NUMBER, "sampling.frequency_penalty", float),
    Field("logit_bias", TOKEN_BIAS, "sampling.logit_bias", msgspec.Raw),
    Field("n", NUMBER, "sampling.n", Annotated[int, msgspec.Meta(ge=1)]),
    Field("stop", STOP_RULE, "sampling.stop", str | list[str], texts, most=MAX_STOPS),
    *unread("top_a typical_p best_of repetition_penalty repeat_penalty", NUMBER),
)
NOT_STORED = ExceptRule(False, StripRule("store"))
LOGPROBS_RULE = UnionRule(plain=(bool, int))

# --- completions --------------------------------------------------------------------------------

COMPLETION_ROWS: tuple[Field, ...] = (
    *SAMPLING,
    Field("prompt", TokenListRule(UNKNOWN_FORM), "prompts"),
    Field("suffix", TEXT, "suffix", str),
    Field("echo", FLAG, "echo", bool),
    Field("max_tokens", NUMBER, "max_tokens", int),
    Field("logprobs", LOGPROBS_RULE, "sampling.top_logprobs", int),
    *unread("max_completion_tokens top_logprobs min_tokens", NUMBER),
    Field("grammar", TEXT),
    Field("store", NOT_STORED),
    *rows_of(rules_of(ACCOUNT)),
    *SERVICES,
)
COMPLETION_FIELDS = FieldTable(COMPLETION_ROWS)

# --- chat completions ---------------------------------------------------------------------------

_REASONING = (
    Field("effort", KEYWORD, "reasoning.effort", Effort, writes=False),
    Field("max_tokens", NUMBER, "reasoning.budget", int, writes=False),
    Field("enabled", FLAG, "reasoning.mode"),
    Field("exclude", FLAG, "reasoning.show"),
    Field("summary", KEYWORD, "reasoning.show", str, writes=False),
    *unread("generate_summary context mode", KEYWORD),
)
"""OpenRouter's object."""
_THINKING = (
    Field("type", KEYWORD, "reasoning.mode", str, writes=False),
    Field("budget_tokens", NUMBER, "reasoning.budget", int, writes=False),
    Field("display", KEYWORD, "reasoning.show", str, writes=False),
    *unread("keep effort", KEYWORD),
    Field("clear_thinking", FLAG),
)
"""The object of DeepSeek and others, which is Anthropic's."""
ROWS: tuple[Field, ...] = (
    *SAMPLING,
    Field("messages", ListRule(policy.MESSAGE), "messages"),
    Field("max_completion_tokens", NUMBER, "max_tokens", int, writes=False),
    Field("max_tokens", NUMBER, "max_tokens", int, writes=False),
    Field("logprobs", LOGPROBS_RULE, "sampling.logprobs", bool),
    Field("top_logprobs", NUMBER, "sampling.top_logprobs", int),
    Field("tools", tool_list(policy.TOOL), "tools"),
    Field("functions", ListRule(policy.DECLARED), "tools"),
    Field("tool_choice", policy.CHOICE, "choice"),
    Field("function_call", UnionRule(text=EnumRule("none auto"), members=policy.CHOSEN), "choice"),
    Field("parallel_tool_calls", FLAG, "parallel", bool, writes=False),
    Field("response_format", policy.RESPONSE_FORMAT, "format"),
    Field("verbosity", KEYWORD, "verbosity", str),
    Field("reasoning_effort", KEYWORD, "reasoning.effort", Effort, writes=False),
    Field("reasoning", ObjectRule(rules_of(_REASONING)), "reasoning", inside=_REASONING),
    Field(
        "thinking",
        UnionRule(members=ObjectRule(rules_of(_THINKING)), plain=(bool,)),
        "reasoning",
        inside=_THINKING,
    ),
    Field(
        "cache_control",
        CACHE_CONTROL,
        "cache",
        ChatCacheControl,
        lambda control: CacheBreakpoint(control.ttl),
        writes=False,
    ),
    *ACCOUNT,
    Field("store", NOT_STORED),
    Field("modalities", ListRule(EnumRule("text audio image"))),
    Field("audio", ObjectRule({"format": FORMAT, "voice": policy.VOICE})),
    Field("prediction", ObjectRule({"type": KEYWORD, "content": policy.CONTENT})),
    *unread("reasoning_format", KEYWORD),
    *unread("enable_thinking reasoning_split include_reasoning tool_stream", FLAG),
    *unread("ignore_eos skip_special_tokens cache_prompt", FLAG),
    *unread("thinking_budget min_tokens", NUMBER),
    Field("chat_template_kwargs", policy.TEMPLATE),
    Field("usage", ObjectRule({"include": FLAG})),
    Field("grammar", TEXT),
    Field("json_schema", SCHEMA),
    Field("keep_alive", DURATION),
    Field("think", KEYWORD_OR_FLAG),
    *SERVICES,
)
FIELDS = FieldTable(
    ROWS,
    kin=KIN,
    reasons={
        "cache": "this service takes no cache markers",
        "metadata": "this dialect means something else by it",
        "tier": "this service has no such tier",
        "reasoning.show": "what is shown of the reasoning cannot be chosen here",
        "reasoning.mode": "thinking is turned on by an effort here",
    },
)


def write_user(ledger: Ledger, body: dict[str, object]) -> None:
    """The end user, in the member that an OpenAI client used, else in `user`."""
    member = "safety_identifier" if ledger.path("user") == "safety_identifier" else "user"
    if (user := ledger.take("user")) is not None:
        body[member] = user
