"""The error of a program that `modelplex run` does not start."""

from __future__ import annotations


class CannotRun(Exception):
    """The program was not started; `sentence` says why."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        super().__init__(sentence)
