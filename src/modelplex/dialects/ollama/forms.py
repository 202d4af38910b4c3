"""The forms of Ollama's API."""

from __future__ import annotations

from modelplex.dialects.form import CONVERSATION, ClientPath, Form

SEED = ("options", "seed")
"""ollama 0.6.3: Options of _types.py"""
OLLAMA = Form(
    name="ollama",
    seed=SEED,
    bases=("/api/", "/models/api/"),
    paths={"chat": ClientPath("api/chat")},
    endpoint="api/chat",
    served_as=CONVERSATION,
    passes=True,
    converses=True,
)
GENERATION = Form(
    name="ollama_generate",
    seed=SEED,
    variant_of=OLLAMA,
    paths={"generate": ClientPath("api/generate")},
    endpoint="api/generate",
    served_as="completions",
    passes=True,
    converses=True,
)
EMBED = Form(
    name="ollama_embed",
    variant_of=OLLAMA,
    paths={"embed": ClientPath("api/embed")},
    endpoint="api/embed",
    served_as="embeddings",
    passes=True,
)

FORMS = (OLLAMA, GENERATION, EMBED)
