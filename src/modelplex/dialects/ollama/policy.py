"""Rules of the sealed policy for the content of Ollama's requests: messages and tools. `fields.py`
says which member has which rule (docs/reference/isolation-requirements.md#compatible-providers).
"""

from __future__ import annotations

from modelplex.policy.containers import ListRule, ObjectRule, UnionRule, VariantRule
from modelplex.policy.leaves import (
    ARGUMENTS,
    FLAG,
    ID,
    KEYWORD,
    LONG_TEXT,
    NAME,
    NUMBER,
    ROLE,
    SCHEMA,
    TEXT,
    TYPE,
    EnumRule,
    PatternRule,
)
from modelplex.policy.tools import UNKNOWN_TOOL, each_field
from modelplex.policy.value_rules import INLINE_BYTES

_DECLARED = ObjectRule(
    {"type": KEYWORD, "name": NAME, "description": TEXT, "parameters": SCHEMA, "strict": FLAG}
)
_FUNCTION = ObjectRule({"type": TYPE, "function": _DECLARED})
TOOL = VariantRule({"function": _FUNCTION}, absent=_FUNCTION, default=UNKNOWN_TOOL)
IMAGES = ListRule(INLINE_BYTES)
FORMAT = UnionRule(text=PatternRule("json|"), members=SCHEMA)
_CALLED = ObjectRule({"name": NAME, "arguments": ARGUMENTS, "index": NUMBER, "description": TEXT})
_TOOL_CALL = ObjectRule({"id": ID, "type": EnumRule("function", required=True), "function": _CALLED})
MESSAGE = ObjectRule(
    {
        "role": ROLE,
        **each_field("content thinking", LONG_TEXT),
        "tool_calls": ListRule(_TOOL_CALL),
        "tool_name": NAME,
        "tool_call_id": ID,
        "images": IMAGES,
    }
)
