"""The members of a request to /api/chat, /api/generate or /api/embed, one row each.

Options: https://github.com/ollama/ollama/blob/main/docs/modelfile.mdx#valid-parameters-and-values
and those of its runner.
"""

from __future__ import annotations

from modelplex.dialects.core.fields import Field, FieldTable, rules_of, texts, unread
from modelplex.dialects.ollama import policy
from modelplex.policy.containers import ListRule, ObjectRule, UnionRule
from modelplex.policy.leaves import DURATION, FLAG, KEYWORD_OR_FLAG, MODEL, NUMBER, NUMBERS, TEXT, TEXTS
from modelplex.policy.tools import tool_list

OPTIONS: tuple[Field, ...] = (
    # Ollama's -1 and -2 mean no limit.
    Field("num_predict", NUMBER, "max_tokens", int, lambda limit: limit if limit > 0 else None),
    Field("temperature", NUMBER, "sampling.temperature", float),
    Field("top_p", NUMBER, "sampling.top_p", float),
    Field("top_k", NUMBER, "sampling.top_k", int),
    Field("min_p", NUMBER, "sampling.min_p", float),
    # Ollama's -1 means any.
    Field("seed", NUMBER, "sampling.seed", int, lambda seed: seed if seed >= 0 else None),
    Field("presence_penalty", NUMBER, "sampling.presence_penalty", float),
    Field("frequency_penalty", NUMBER, "sampling.frequency_penalty", float),
    Field("stop", UnionRule(text=TEXT, items=TEXTS), "sampling.stop", str | list[str], texts),
    *unread("num_ctx num_batch num_gpu main_gpu num_thread num_keep draft_num_predict", NUMBER),
    *unread("typical_p tfs_z repeat_last_n repeat_penalty mirostat mirostat_tau mirostat_eta", NUMBER),
    *unread("use_mmap use_mlock penalize_newline numa low_vram f16_kv logits_all", FLAG),
    *unread("vocab_only embedding_only", FLAG),
)
_OPTIONS = Field("options", ObjectRule(rules_of(OPTIONS)), inside=OPTIONS)
_SHARED: tuple[Field, ...] = (
    Field("model", MODEL, "model"),
    Field("stream", FLAG, "stream"),
    _OPTIONS,
    Field("format", policy.FORMAT, "format"),
    Field("think", KEYWORD_OR_FLAG, "reasoning"),
    Field("logprobs", FLAG, "sampling.logprobs", bool),
    Field("top_logprobs", NUMBER, "sampling.top_logprobs", int, lambda count: count or None),
    Field("keep_alive", DURATION),
    *unread("truncate shift", FLAG),
)
ROWS: tuple[Field, ...] = (
    *_SHARED,
    Field("messages", ListRule(policy.MESSAGE), "messages"),
    Field("tools", tool_list(policy.TOOL), "tools"),
)
GENERATE_ROWS: tuple[Field, ...] = (
    *_SHARED,
    Field("prompt", TEXT, "messages"),
    Field("suffix", TEXT, "suffix", str, lambda suffix: suffix or None),
    *(Field(name, TEXT, "messages") for name in ("system", "template")),
    Field("context", NUMBERS, "messages"),
    Field("raw", FLAG, "messages"),
    Field("images", policy.IMAGES, "messages"),
    *unread("width height steps", NUMBER),
)
EMBED = ObjectRule(
    {
        "model": MODEL,
        "input": UnionRule(text=TEXT, items=TEXTS),
        "truncate": FLAG,
        "dimensions": NUMBER,
        "options": _OPTIONS.policy,
        "keep_alive": DURATION,
    }
)
KIN = frozenset({"ollama", "ollama_generate"})
"""Dialects that have the same `options`."""
FIELDS = FieldTable(
    ROWS,
    kin=KIN,
    reasons={
        "sampling.logit_bias": "Ollama has no such option",
        "verbosity": "Ollama has no such field",
        "cache": "Ollama caches prefixes by itself",
        "cache_key": "Ollama caches prefixes by itself",
        "user": "Ollama has no end users",
        "metadata": "Ollama keeps none",
        "tier": "Ollama has no tiers",
        "parallel": "Ollama cannot be held to one call",
        "choice": "Ollama cannot be made to call a tool",
        "echo": "Ollama returns the continuation alone",
        "format.description": "Ollama takes the schema without its description",
        "sampling.top_logprobs": "Ollama has them beside logprobs only",
        "reasoning.show": "Ollama shows all thinking",
    },
)
GENERATE_FIELDS = FieldTable(GENERATE_ROWS, kin=KIN, reasons=FIELDS.reasons)
