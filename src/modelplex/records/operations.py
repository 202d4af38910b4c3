"""`gen_ai.operation.name` of each endpoint, for spans and metrics. Pure.

Source: the well-known values in
https://github.com/open-telemetry/semantic-conventions-genai/blob/v0.1.0/docs/gen-ai/client-inference.md
(read on 2026-12-01).
"""

from __future__ import annotations

from typing import Final

EMBEDDINGS: Final = "embeddings"
OPERATIONS: Final = {
    "chat/completions": "chat",
    "responses": "chat",
    "messages": "chat",
    "api/chat": "chat",
    "generate_content": "generate_content",
    "completions": "text_completion",
    "api/generate": "text_completion",
    "embeddings": EMBEDDINGS,
    "embed_content": EMBEDDINGS,
    "api/embed": EMBEDDINGS,
    "rerank": "retrieval",
}
INFERENCE: Final = frozenset({"chat", "generate_content", "text_completion"})
"""Operations in which a model generates; embeddings and others have metrics of their own."""


def operation_of(endpoint: str) -> str:
    """An endpoint without a well-known operation is named by its path."""
    return OPERATIONS.get(endpoint, endpoint)
