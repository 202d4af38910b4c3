"""The reasons why `modelplex run` does not start a program."""

from __future__ import annotations


class CannotRun(Exception):
    """`sentence` gives the reason."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        super().__init__(sentence)


class WrongArguments(CannotRun):
    """The arguments are wrong, or do not fit the config."""


class UnknownMachine(CannotRun):
    """The system calls of this machine are not known."""
