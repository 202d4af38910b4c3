"""Documents, passages and other media: their types, and how the writers send them.

Clients name types in their own way, or not at all: `image/jpg`, `application/octet-stream` for a
file of text, bytes without a name. Services take a list of types each.
"""

from __future__ import annotations

import base64
import binascii
import codecs
from collections.abc import Mapping
from typing import Any

from modelplex.core.errors import BadRequest
from modelplex.core.request import InlineData, Place, SearchResultPart

ERROR_MARK = "[tool error] "
"""Begins the result of a failed tool where the provider has no member for that."""

_SPELLED: Mapping[str, str] = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "text/x-markdown": "text/markdown",
    "application/x-pdf": "application/pdf",
}
"""Types under names that services refuse, by the registered name
(https://www.iana.org/assignments/media-types).
"""
_UNTOLD = frozenset({"", "application/octet-stream", "binary/octet-stream"})
"""What a client says that does not know the type."""
_PDF = "application/pdf"
_ENDINGS: Mapping[str, str] = {
    "pdf": _PDF,
    "txt": "text/plain",
    "log": "text/plain",
    "json": "text/plain",
    "xml": "text/plain",
    "md": "text/markdown",
    "markdown": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "htm": "text/html",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
}
"""Types by the ending of a file's name."""
_BEGINNINGS: Mapping[str, str] = {
    "JVBERi": _PDF,
    "iVBORw0KGgo": "image/png",
    "/9j/": "image/jpeg",
    "R0lGOD": "image/gif",
}
"""Types by the beginning of the bytes, in base64."""
_HEAD = 1024
"""Characters of base64 that are looked at."""


def media_type_of(given: str, data: str, *, filename: str | None = None) -> str:
    """The type of bytes in base64, as services spell it. Where the client does not know it, by the
    file's name or the bytes; `application/octet-stream` where these do not tell.
    """
    kind = given.partition(";")[0].strip().lower()
    kind = _SPELLED.get(kind, kind)
    if kind not in _UNTOLD:
        return kind
    if (named := type_of_name(filename or "")) is not None:
        return named
    for beginning, found in _BEGINNINGS.items():
        if data.startswith(beginning):
            return found
    return "text/plain" if _is_text(data[:_HEAD]) else "application/octet-stream"


def type_of_name(name: str) -> str | None:
    """The type of a file by its name or address; None where that does not tell."""
    path = name.partition("?")[0].partition("#")[0]
    return _ENDINGS.get(path.rpartition(".")[2].lower()) if "." in path else None


def file_name(source: InlineData, members: dict[str, Any]) -> str:
    """The name or the title of a file, which it pops from `members`. One that has neither is named
    after its type: some services read the type from the name.
    """
    name: str | None = members.pop("filename", None) or members.pop("title", None)
    return name or name_of_type(source.media_type)


def name_of_type(media_type: str) -> str:
    """A name for a file of this type."""
    ending = next((ending for ending, kind in _ENDINGS.items() if kind == media_type), None)
    return f"document.{ending or media_type.rpartition('/')[2]}"


def _is_text(head: str) -> bool:
    try:
        decoded = base64.b64decode(head[: len(head) // 4 * 4], validate=True)
        text = codecs.getincrementaldecoder("utf-8")().decode(decoded)
    except (binascii.Error, UnicodeDecodeError):
        return False
    return bool(text) and "\0" not in text


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
