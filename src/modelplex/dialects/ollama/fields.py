"""The members of a request to /api/chat or /api/generate and their leaves of ChatRequest, one row
per member.

The paths in reports of changes come from these rows. Where a leaf has several members, the first
row names it, unless the reader saw another one.
"""

from __future__ import annotations

ROWS: tuple[tuple[str, str], ...] = (
    ("options.num_predict", "max_tokens"),
    ("options.temperature", "sampling.temperature"),
    ("options.top_p", "sampling.top_p"),
    ("options.top_k", "sampling.top_k"),
    ("options.min_p", "sampling.min_p"),
    ("options.seed", "sampling.seed"),
    ("options.presence_penalty", "sampling.presence_penalty"),
    ("options.frequency_penalty", "sampling.frequency_penalty"),
    ("options.stop", "sampling.stop"),
    ("logprobs", "sampling.logprobs"),
    ("top_logprobs", "sampling.top_logprobs"),
    ("format", "format"),
    ("format", "format.schema"),
    ("think", "reasoning"),
    ("think", "reasoning.effort"),
    ("think", "reasoning.mode"),
)
"""The client's member and the leaf, or the group of leaves, that it is read into."""
PATHS: dict[str, str] = {leaf: member for member, leaf in reversed(ROWS)}
