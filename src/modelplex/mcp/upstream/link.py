"""A conversation with one server, in whichever era it speaks."""

from __future__ import annotations

from typing import Protocol

from modelplex.mcp.words import Era, Json


class Lost(Exception):
    """The other side is gone, or says what is not JSON-RPC. `sentence` is for a person."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class Link(Protocol):
    """What a handle has of a server that runs."""

    @property
    def era(self) -> Era: ...
    @property
    def version(self) -> str: ...
    async def notify(self, method: str, params: Json) -> None: ...
    async def close(self) -> None: ...
