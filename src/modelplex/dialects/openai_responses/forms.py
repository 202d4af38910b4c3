"""The forms of OpenAI's Responses."""

from __future__ import annotations

from modelplex.dialects.form import CONVERSATION, ClientPath, Form

RESPONSES = Form(
    name="openai_responses",
    paths={"responses": ClientPath("responses")},
    at_root=True,
    folder="responses/",
    endpoint="responses",
    served_as=CONVERSATION,
    beside=True,
    passes=True,
    converses=True,
)
COUNT = Form(
    name="openai_count",
    variant_of=RESPONSES,
    paths={"responses/input_tokens": ClientPath("responses/input_tokens")},
    at_root=True,
    endpoint="responses/input_tokens",
    served_as="responses/input_tokens",
    counts=True,
)
COMPACT = Form(
    name="openai_compact",
    variant_of=RESPONSES,
    paths={"responses/compact": ClientPath("responses/compact")},
    at_root=True,
    endpoint="responses/compact",
    served_as="responses/compact",
    beside=True,
    passes=True,
    converses=True,
)

FORMS = (RESPONSES, COUNT, COMPACT)
