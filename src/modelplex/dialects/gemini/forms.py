"""The forms of Gemini's API."""

from __future__ import annotations

from modelplex.dialects.form import CONVERSATION, ClientPath, Form

GEMINI = Form(
    name="gemini",
    # google-genai 3.6.1: GenerationConfig of types.py
    seed=("generationConfig", "seed"),
    model_in_path=True,
    client_headers=frozenset({b"x-goog-api-client", b"x-goog-api-key"}),
    # By the versions that its clients put into the path.
    bases=("/v1beta/", "/models/v1beta/", "/v1alpha/"),
    shared_base="/v1/",
    paths={
        "generateContent": ClientPath("generate_content", stream=False),
        "streamGenerateContent?alt=sse": ClientPath("generate_content", stream=True),
    },
    endpoint="generate_content",
    served_as=CONVERSATION,
    passes=True,
    converses=True,
)
ARRAY = Form(
    name="gemini_array",
    variant_of=GEMINI,
    model_in_path=True,
    paths={"streamGenerateContent": ClientPath("generate_content", stream=True)},
    endpoint="generate_content",
    served_as=CONVERSATION,
    converses=True,
)
"""The stream as one JSON array: Google's default where a client does not ask for events."""
COUNT = Form(
    name="gemini_count",
    variant_of=GEMINI,
    model_in_path=True,
    paths={"countTokens": ClientPath("count_tokens", stream=False)},
    endpoint="count_tokens",
    served_as="count_tokens",
    counts=True,
)
EMBED_ONE = Form(
    name="gemini_embed_one",
    variant_of=GEMINI,
    model_in_path=True,
    paths={"embedContent": ClientPath("embed_content", stream=False)},
    endpoint="embed_content",
    served_as="embeddings",
)
"""One text; a provider is asked in the form of `EMBED`."""
EMBED = Form(
    name="gemini_embed",
    variant_of=GEMINI,
    model_in_path=True,
    paths={"batchEmbedContents": ClientPath("embed_content", stream=False)},
    endpoint="embed_content",
    served_as="embeddings",
    passes=True,
)

FORMS = (GEMINI, ARRAY, COUNT, EMBED_ONE, EMBED)
