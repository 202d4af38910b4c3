"""The members of a Responses request and their leaves of ChatRequest, one row
per member.

The paths in reports of changes come from these rows. Where a leaf has several members, the first
row names it, unless the reader saw another one.
"""

from __future__ import annotations

ROWS: tuple[tuple[str, str], ...] = (
    ("max_output_tokens", "max_tokens"),
    ("temperature", "sampling.temperature"),
    ("top_p", "sampling.top_p"),
    ("top_logprobs", "sampling.top_logprobs"),
    ("include", "sampling.logprobs"),
    ("text.format", "format"),
    ("text.format.schema", "format.schema"),
    ("text.format.name", "format.name"),
    ("text.format.description", "format.description"),
    ("text.format.strict", "format.strict"),
    ("text.verbosity", "verbosity"),
    ("reasoning", "reasoning"),
    ("reasoning.effort", "reasoning.effort"),
    ("reasoning.summary", "reasoning.show"),
    ("tool_choice", "choice"),
    ("parallel_tool_calls", "parallel"),
    ("prompt_cache_key", "cache_key"),
    ("user", "user"),
    ("metadata", "metadata"),
    ("service_tier", "tier"),
)
"""The client's member and the leaf, or the group of leaves, that it is read into."""
PATHS: dict[str, str] = {leaf: member for member, leaf in reversed(ROWS)}
