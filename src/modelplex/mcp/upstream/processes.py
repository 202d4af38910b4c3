"""Processes of tool servers: started without a shell, bounded in number, and ended with everything that they started."""

from __future__ import annotations


class Children:
    """How many processes there may be, of all servers together. One for the whole gateway."""

    def __init__(self, limit: int = 64) -> None:
        self.limit = limit
