"""Rules of the sealed policy for what is written to Converse. No client sends such a body: it is
judged after it was translated. `fields.py` says which member has which rule
(docs/reference/isolation-requirements.md#compatible-providers).

A block has no type here: which one it is follows from its only member.
"""

from __future__ import annotations

from modelplex.policy.containers import ListRule, ObjectRule
from modelplex.policy.leaves import (
    ARGUMENTS,
    CACHE_CONTROL,
    FLAG,
    ID,
    KEYWORD,
    LONG_TEXT,
    NAME,
    NUMBER,
    OPAQUE_STATE,
    ROLE,
    SCHEMA,
    TEXT,
    PatternRule,
)
from modelplex.policy.tools import each_field
from modelplex.policy.value_rules import INLINE_BYTES, UNKNOWN_PART, RefuseRule
from modelplex.policy.walk import ValueRule

_BYTES = ObjectRule({"bytes": INLINE_BYTES}, default=RefuseRule("stored-file"))
"""The other sources are addresses in S3, which the service would read."""
_FORMAT = PatternRule(r"[a-z0-9-]{1,8}")
_CITED = ObjectRule({"enabled": FLAG})
_MEDIA = ObjectRule({"format": _FORMAT, "source": _BYTES})
_DOCUMENT = ObjectRule(
    {"format": _FORMAT, "source": _BYTES, "name": NAME, "context": TEXT, "citations": _CITED}
)
_SEARCH_RESULT = ObjectRule(
    {
        **each_field("source title", TEXT),
        "content": ListRule(ObjectRule({"text": TEXT})),
        "citations": _CITED,
    }
)
_CONTENT: dict[str, ValueRule] = {
    "text": LONG_TEXT,
    "image": _MEDIA,
    "document": _DOCUMENT,
    "searchResult": _SEARCH_RESULT,
}
_RESULT = ObjectRule(
    {
        "toolUseId": ID,
        "status": KEYWORD,
        "content": ListRule(ObjectRule({**_CONTENT, "audio": _MEDIA}, default=UNKNOWN_PART)),
    }
)
_REASONING = ObjectRule(
    {
        "reasoningText": ObjectRule({"text": LONG_TEXT, "signature": OPAQUE_STATE}),
        "redactedContent": OPAQUE_STATE,
    },
    default=UNKNOWN_PART,
)
_BLOCK = ObjectRule(
    {
        **_CONTENT,
        "audio": _MEDIA,
        "toolUse": ObjectRule({"toolUseId": ID, "name": NAME, "input": ARGUMENTS}),
        "toolResult": _RESULT,
        "reasoningContent": _REASONING,
        "cachePoint": CACHE_CONTROL,
    },
    default=UNKNOWN_PART,
)
MESSAGES = ListRule(ObjectRule({"role": ROLE, "content": ListRule(_BLOCK)}))
SYSTEM = ListRule(ObjectRule({"text": LONG_TEXT, "cachePoint": CACHE_CONTROL}, default=UNKNOWN_PART))
_SPEC = ObjectRule(
    {"name": NAME, "description": TEXT, "inputSchema": ObjectRule({"json": SCHEMA}), "strict": FLAG}
)
_NO_MEMBERS = ObjectRule({})
TOOLS = ObjectRule(
    {
        "tools": ListRule(ObjectRule({"toolSpec": _SPEC, "cachePoint": CACHE_CONTROL}, default=UNKNOWN_PART)),
        "toolChoice": ObjectRule(
            {"auto": _NO_MEMBERS, "any": _NO_MEMBERS, "tool": ObjectRule({"name": NAME})}
        ),
    }
)
MODEL_FIELDS = ObjectRule(
    {
        "thinking": ObjectRule({"type": KEYWORD, "budget_tokens": NUMBER}),
        "reasoningConfig": ObjectRule({"type": KEYWORD, "maxReasoningEffort": KEYWORD}),
        "reasoning_effort": KEYWORD,
        "top_k": NUMBER,
        "inferenceConfig": ObjectRule({"topK": NUMBER}),
    }
)
"""The parameters of models that `request_out.py` and `reasoning.py` write."""
OUTPUT = ObjectRule(
    {
        "effort": KEYWORD,
        "textFormat": ObjectRule(
            {
                "type": KEYWORD,
                "structure": ObjectRule(
                    {"jsonSchema": ObjectRule({"schema": TEXT, "name": NAME, "description": TEXT})}
                ),
            }
        ),
    }
)
"""The schema is text: it was judged as a schema in the client's body."""
