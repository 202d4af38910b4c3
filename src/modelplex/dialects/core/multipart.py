"""Finds the `model` field of a multipart form, so that it can be replaced and all other bytes stay.

Other fields and files are not parsed. RFC 7578; the boundary is that of RFC 2046, 5.1.1.
"""

from __future__ import annotations

import re

from modelplex.core.errors import BadRequest

_boundary = re.compile(rb'(?:^|[\s;])boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_named = re.compile(
    rb'^content-disposition:[^\r\n]*[;\s]name="?model"?\s*(?:;|$)', re.IGNORECASE | re.MULTILINE
)
MAX_HEAD = 16_384
"""Bytes of a part's headers: a name and a file name, which has some thousand bytes at most."""
MAX_PARTS = 64
"""A form of these endpoints has under twenty members. Bounds the work for a hostile form."""


def find_model(body: bytes, content_type: str) -> tuple[int, int]:
    """Start and end of the value of the field `model` in `body`. Raises BadRequest."""
    found = _boundary.search(content_type.encode("latin-1", "replace"))
    if found is None:
        raise BadRequest("The content-type multipart/form-data has no boundary.")
    mark = b"--" + (found.group(1) or found.group(2))
    at = body.find(mark)
    model: tuple[int, int] | None = None
    for _ in range(MAX_PARTS):
        if at < 0 or body.startswith(b"--", at + len(mark)):
            break
        start = at + len(mark) + 2
        end = body.find(b"\r\n" + mark, start)
        head_end = body.find(b"\r\n\r\n", start)
        if end < 0 or head_end < 0 or head_end > end:
            raise BadRequest("The multipart body is not whole: a part has no end.")
        if head_end - start > MAX_HEAD:
            raise BadRequest(f"A part of the form has more than {MAX_HEAD} bytes of headers.")
        if _named.search(body[start:head_end].replace(b"\r\n", b"\n")):
            if model is not None:
                raise BadRequest("The form has 'model' twice.", param="model")
            model = head_end + 4, end
        at = end + 2
    else:
        raise BadRequest(f"The form has more than {MAX_PARTS} parts.")
    if model is not None:
        return model
    raise BadRequest("The form has no 'model': name one of GET /models/v1/models.", param="model")
