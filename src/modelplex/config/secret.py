"""A value that must not be seen: keys, tokens, and headers that may carry either.

It stands below every setting and knows none. Whoever sends it says `reveal()`, so that each place
that does can be found by that word.
"""

from __future__ import annotations

from typing import Final

HIDDEN: Final = "********"


class Secret:
    """A string that prints as asterisks in `repr`, `str`, f-strings and, through `hide`, in JSON.
    Not a `str`, so nothing writes it by accident.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself. For the line that sends it, and for no other."""
        return self._value

    def __repr__(self) -> str:
        return HIDDEN

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(HIDDEN, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)


def hide(value: object) -> object:
    """What msgspec writes for a Secret: `msgspec.json.encode(config, enc_hook=hide)`. Raises
    NotImplementedError for any other type.
    """
    if isinstance(value, Secret):
        return HIDDEN
    raise NotImplementedError(f"{type(value).__name__} has no form in JSON")
