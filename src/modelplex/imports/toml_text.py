"""Plain values as TOML. None is left out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def table_text(heading: str, members: Mapping[str, Any]) -> str:
    """A table with its heading, such as "[mcp]" or "[[providers]]"."""
    lines = [f"{key(name)} = {value(each)}" for name, each in members.items() if each is not None]
    return "\n".join([heading, *lines]) + "\n"


def key(name: str) -> str:
    return name if _BARE.fullmatch(name) else value(name)


def value(each: object) -> str:
    match each:
        case bool():
            return str(each).lower()
        case float():
            return f"{each:.12f}".rstrip("0") + ("0" if each.is_integer() else "")
        case int():
            return str(each)
        case str():
            # JSON's escapes are TOML's, but for DEL.
            return json.dumps(each, ensure_ascii=False).replace("\x7f", "\\u007f")
        case Mapping():
            members = cast("Mapping[str, object]", each)
            return "{ " + ", ".join(f"{key(name)} = {value(one)}" for name, one in members.items()) + " }"
        case Sequence():
            return "[" + ", ".join(map(value, cast("Sequence[object]", each))) + "]"
        case _:
            raise TypeError(type(each).__name__)
