"""The forms of Anthropic's Messages."""

from __future__ import annotations

from modelplex.dialects.form import CONVERSATION, ClientPath, Form

MESSAGES = Form(
    name="anthropic_messages",
    client_headers=frozenset({b"anthropic-version"}),
    paths={"messages": ClientPath("messages")},
    at_root=True,
    folder="messages/",
    endpoint="messages",
    served_as=CONVERSATION,
    beside=True,
    passes=True,
    converses=True,
)
COUNT = Form(
    name="anthropic_count",
    variant_of=MESSAGES,
    paths={"messages/count_tokens": ClientPath("messages/count_tokens")},
    at_root=True,
    endpoint="messages/count_tokens",
    served_as="messages/count_tokens",
    counts=True,
)

FORMS = (MESSAGES, COUNT)
