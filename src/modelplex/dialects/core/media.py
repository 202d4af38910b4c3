"""Documents, passages and other media as the writers send them: data: URLs, text, titles."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from modelplex.core.errors import BadRequest
from modelplex.core.request import InlineData, Place, SearchResultPart

ERROR_MARK = "[tool error] "
"""Begins the result of a failed tool where the provider has no member for that."""


def data_url(source: InlineData) -> str:
    return f"data:{source.media_type};base64,{source.data}"


def decode_text(source: InlineData, place: Place) -> str:
    """The text of a document that was sent as bytes. Raises BadRequest."""
    try:
        return base64.b64decode(source.data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise BadRequest("The text document is not base64 of UTF-8.", param=str(place)) from error


def document_text(text: str, members: dict[str, Any], *, separator: str = "\n") -> str:
    """A document as plain text: its title or file name, its context and its text. Pops what it
    writes from `members`.
    """
    heads = (members.pop("title", None) or members.pop("filename", None), members.pop("context", None))
    return separator.join([*filter(None, heads), text])


def search_text(found: SearchResultPart, *, separator: str = "\n") -> str:
    """A search result as plain text: title, source and passages."""
    return separator.join([f"{found.title}\n{found.source}", *found.texts])
