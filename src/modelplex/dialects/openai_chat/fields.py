"""The members of a chat completions request and their leaves of ChatRequest, one row
per member.

The paths in reports of changes come from these rows. Where a leaf has several members, the first
row names it, unless the reader saw another one.
"""

from __future__ import annotations

ROWS: tuple[tuple[str, str], ...] = (
    ("max_tokens", "max_tokens"),
    ("max_completion_tokens", "max_tokens"),
    ("temperature", "sampling.temperature"),
    ("top_p", "sampling.top_p"),
    ("top_k", "sampling.top_k"),
    ("min_p", "sampling.min_p"),
    ("seed", "sampling.seed"),
    ("presence_penalty", "sampling.presence_penalty"),
    ("frequency_penalty", "sampling.frequency_penalty"),
    ("logit_bias", "sampling.logit_bias"),
    ("logprobs", "sampling.logprobs"),
    ("top_logprobs", "sampling.top_logprobs"),
    ("n", "sampling.n"),
    ("stop", "sampling.stop"),
    ("response_format", "format"),
    ("response_format.json_schema.schema", "format.schema"),
    ("response_format.json_schema.name", "format.name"),
    ("response_format.json_schema.description", "format.description"),
    ("response_format.json_schema.strict", "format.strict"),
    ("verbosity", "verbosity"),
    ("reasoning_effort", "reasoning"),
    ("reasoning_effort", "reasoning.effort"),
    ("reasoning.max_tokens", "reasoning.budget"),
    ("reasoning.enabled", "reasoning.mode"),
    ("reasoning.summary", "reasoning.show"),
    ("tool_choice", "choice"),
    ("parallel_tool_calls", "parallel"),
    ("cache_control", "cache"),
    ("prompt_cache_key", "cache_key"),
    ("user", "user"),
    ("metadata", "metadata"),
    ("service_tier", "tier"),
)
"""The client's member and the leaf, or the group of leaves, that it is read into."""
PATHS: dict[str, str] = {leaf: member for member, leaf in reversed(ROWS)}
