"""What can go wrong with shared limits."""

from __future__ import annotations


class SharedError(Exception):
    """Shared limits cannot be used. The text is a sentence for whoever starts the gateway."""

    @property
    def sentence(self) -> str:
        return str(self)


class EngineLost(Exception):
    """The engine did not answer. The text is a reason in a few words, without a secret."""
