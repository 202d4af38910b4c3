"""The members of a Messages request and their leaves of ChatRequest, one row
per member.

The paths in reports of changes come from these rows. Where a leaf has several members, the first
row names it, unless the reader saw another one.
"""

from __future__ import annotations

ROWS: tuple[tuple[str, str], ...] = (
    ("system", "system.content"),
    ("max_tokens", "max_tokens"),
    ("temperature", "sampling.temperature"),
    ("top_p", "sampling.top_p"),
    ("top_k", "sampling.top_k"),
    ("stop_sequences", "sampling.stop"),
    ("output_config.format", "format"),
    ("output_config.format.schema", "format.schema"),
    ("thinking", "reasoning"),
    ("output_config.effort", "reasoning.effort"),
    ("thinking.budget_tokens", "reasoning.budget"),
    ("thinking.type", "reasoning.mode"),
    ("thinking.display", "reasoning.show"),
    ("tool_choice", "choice"),
    ("tool_choice.disable_parallel_tool_use", "parallel"),
    ("cache_control", "cache"),
    ("metadata.user_id", "user"),
    ("service_tier", "tier"),
)
"""The client's member and the leaf, or the group of leaves, that it is read into."""
PATHS: dict[str, str] = {leaf: member for member, leaf in reversed(ROWS)}
