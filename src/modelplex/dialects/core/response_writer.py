"""Rules that the writers of client responses share. Imports no dialect."""

from __future__ import annotations

from typing import Any

import msgspec

from modelplex.core.events import CitationAdded, ResponseEnded
from modelplex.core.request import Change
from modelplex.dialects.core.json import as_object, decode_mended

_decode = msgspec.json.Decoder().decode


def lost_media(path: str) -> Change:
    """The loss of an output that only the provider's dialect has."""
    return Change("drop", path, "an output that has no form here")


def refusal_explanation(event: ResponseEnded) -> str | None:
    """Why the model refused, where its provider says so beside the text (Anthropic's
    `stop_details`).
    """
    if event.reason != "refusal" or event.detail is None:
        return None
    explanation = (as_object(decode_mended(bytes(event.detail), _decode)) or {}).get("explanation")
    return explanation if isinstance(explanation, str) else None


def web_citation(event: CitationAdded) -> dict[str, Any] | None:
    """The members of OpenAI's `url_citation` for a citation of a web page in any dialect, or None
    for another citation.
    """
    cited = as_object(_decode(event.raw)) or {}
    cited = as_object(cited.get("url_citation")) or cited
    url = cited.get("url")
    if not isinstance(url, str):
        return None
    # Not every dialect has the place in the text: the whole text, then.
    place = {"start_index": cited.get("start_index") or 0, "end_index": cited.get("end_index") or 0}
    return {**place, "url": url, "title": cited.get("title") or ""}
