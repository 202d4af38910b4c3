"""Joins neighbouring tool results into one message.

Readers append one message for each result and join them once at the end; a message that grew by one
result at a time would be copied for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

import msgspec

from modelplex.core.request import Message


def joined_results(messages: Iterable[Message]) -> Iterator[Message]:
    """The messages, with neighbours of role "tool" joined at the path of the first."""
    for is_tool, run in groupby(messages, key=lambda message: message.role == "tool"):
        if not is_tool:
            yield from run
            continue
        first, *others = run
        parts = (part for message in others for part in message.parts)
        yield msgspec.structs.replace(first, parts=(*first.parts, *parts)) if others else first
