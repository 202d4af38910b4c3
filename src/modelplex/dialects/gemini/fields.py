"""The members of a generateContent request and their leaves of ChatRequest, one row
per member.

The paths in reports of changes come from these rows. Where a leaf has several members, the first
row names it, unless the reader saw another one.
"""

from __future__ import annotations

ROWS: tuple[tuple[str, str], ...] = (
    ("generationConfig.maxOutputTokens", "max_tokens"),
    ("generationConfig.temperature", "sampling.temperature"),
    ("generationConfig.topP", "sampling.top_p"),
    ("generationConfig.topK", "sampling.top_k"),
    ("generationConfig.seed", "sampling.seed"),
    ("generationConfig.presencePenalty", "sampling.presence_penalty"),
    ("generationConfig.frequencyPenalty", "sampling.frequency_penalty"),
    ("generationConfig.responseLogprobs", "sampling.logprobs"),
    ("generationConfig.logprobs", "sampling.top_logprobs"),
    ("generationConfig.candidateCount", "sampling.n"),
    ("generationConfig.stopSequences", "sampling.stop"),
    ("generationConfig.responseMimeType", "format.kind"),
    ("generationConfig.responseJsonSchema", "format"),
    ("generationConfig.responseJsonSchema", "format.schema"),
    ("generationConfig.thinkingConfig", "reasoning"),
    ("generationConfig.thinkingConfig.thinkingLevel", "reasoning.effort"),
    ("generationConfig.thinkingConfig.thinkingBudget", "reasoning.budget"),
    ("generationConfig.thinkingConfig.thinkingBudget", "reasoning.mode"),
    ("generationConfig.thinkingConfig.includeThoughts", "reasoning.show"),
    ("toolConfig.functionCallingConfig", "choice"),
)
"""The client's member and the leaf, or the group of leaves, that it is read into."""
PATHS: dict[str, str] = {leaf: member for member, leaf in reversed(ROWS)}
