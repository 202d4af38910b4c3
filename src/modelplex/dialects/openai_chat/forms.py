"""The forms of OpenAI's chat completions and other endpoints."""

from __future__ import annotations

from modelplex.dialects.form import CONVERSATION, ClientPath, Form

SEED = ("seed",)
"""openai 3.57.0: types/chat/completion_create_params.py, types/completion_create_params.py"""
CHAT = Form(
    name="openai_chat",
    paths={"chat/completions": ClientPath("chat/completions")},
    at_root=True,
    endpoint="chat/completions",
    served_as=CONVERSATION,
    passes=True,
    converses=True,
    seed=SEED,
)
COMPLETIONS = Form(
    name="openai_completions",
    variant_of=CHAT,
    paths={"completions": ClientPath("completions")},
    at_root=True,
    endpoint="completions",
    served_as="completions",
    passes=True,
    seed=SEED,
)
EMBEDDINGS = Form(
    name="openai_embeddings",
    variant_of=CHAT,
    paths={"embeddings": ClientPath("embeddings")},
    at_root=True,
    endpoint="embeddings",
    served_as="embeddings",
    passes=True,
)
JSON = Form(
    name="openai_json",
    variant_of=CHAT,
    paths={
        "moderations": ClientPath("moderations"),
        "rerank": ClientPath("rerank"),
        "images/generations": ClientPath("images/generations"),
        "images/edits": ClientPath("images/edits", form=True),
        "images/variations": ClientPath("images/variations", form=True),
        "audio/speech": ClientPath("audio/speech"),
        "audio/transcriptions": ClientPath("audio/transcriptions", form=True),
        "audio/translations": ClientPath("audio/translations", form=True),
    },
)
"""Bodies and responses that nobody here reads."""

FORMS = (CHAT, COMPLETIONS, EMBEDDINGS, JSON)
