"""Free-form tools for providers that have functions only: one string stands for the whole input.

Imports no dialect.
"""

from __future__ import annotations

import msgspec

from modelplex.core.request import FreeformTool

WRAPPED = msgspec.Raw(
    b'{"type":"object","properties":{"input":{"type":"string","description":"The tool\'s whole input, as plain text."}},"required":["input"]}'
)
"""The parameters of the function."""
NO_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')
"""The parameters of a function that takes nothing."""
WRAPS = "a free-form tool is written as a function with one string `input`"
"""The reason in reports."""
LEAVES = frozenset({"description", "syntax", "definition"})
"""The leaves of a free-form tool that its function holds."""


def description_of(tool: FreeformTool) -> str:
    """The description of the function. It includes the tool's grammar, which no schema can hold."""
    texts = [tool.description] if tool.description else []
    if tool.definition:
        texts.append(f"The input must match this {tool.syntax or 'formal'} grammar:\n{tool.definition}")
    return "\n\n".join(texts)
