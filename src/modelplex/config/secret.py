"""A value that must not be shown: keys, tokens, and headers that may carry either. The places that
send one are found by `reveal()`.
"""

from __future__ import annotations

from typing import Final

HIDDEN: Final = "********"


class Secret:
    """A string that prints as asterisks in `repr`, `str`, f-strings and, through `hide`, in JSON.
    Not a `str`, so that nothing writes it by accident.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, for the line that sends it."""
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
    """An `enc_hook` of msgspec that writes a Secret as asterisks. Raises NotImplementedError for
    other types.
    """
    if isinstance(value, Secret):
        return HIDDEN
    raise NotImplementedError(f"{type(value).__name__} has no form in JSON")
