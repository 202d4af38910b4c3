"""Arguments of tool calls: how deep they may be nested."""

from __future__ import annotations

import re

MAX_DEPTH = 128
"""Levels of nesting, as for a whole body: real ones stay below 30, and parsers give up at about a
thousand.
"""

_string = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_bracket = re.compile(r"[\[\]{}]")


def is_too_deep(text: str) -> bool:
    """Whether this JSON text is nested deeper than MAX_DEPTH. Linear, and without recursion."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return False
    depth = 0
    for bracket in _bracket.findall(_string.sub("", text)):
        depth += 1 if bracket in "{[" else -1
        if depth > MAX_DEPTH:
            return True
    return False
