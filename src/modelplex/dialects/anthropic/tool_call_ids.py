"""Tool call ids that Messages clients accept, and that lead back to the provider's ids.

A client sends each call's id back with its result, and tells calls apart by it over the whole
conversation. Other providers use other characters, and some number their calls anew in every turn.
An id that is accepted stays; any other is packed so that the id alone is enough to unpack it.
"""

from __future__ import annotations

import base64
import binascii
import re

PACKED = "mpx_"
"""Begins each packed id. A provider's own id that begins so is packed as well, so that only packed
ids are unpacked.
"""

_accepted = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_refused = re.compile(r"[^A-Za-z0-9_-]", re.ASCII)


def call_id(given: str, *, times: int) -> str:
    """The id of a call for the client. `times` is how often the conversation has it already."""
    if times == 0 and _accepted.fullmatch(given) and not given.startswith(PACKED):
        return given
    packed = base64.urlsafe_b64encode(f"{times}:{given}".encode("utf-8", "surrogatepass"))
    return PACKED + packed.rstrip(b"=").decode("ascii")


def given_id(sent: str) -> str:
    """The provider's id; `sent` itself if it is not packed."""
    if not sent.startswith(PACKED):
        return sent
    packed = sent[len(PACKED) :]
    try:
        text = base64.b64decode(packed + "=" * (-len(packed) % 4), b"-_", validate=True)
        times, colon, given = text.decode("utf-8", "surrogatepass").partition(":")
    except (binascii.Error, ValueError):
        return sent
    return given if colon and times.isdecimal() else sent


def message_id(given: str) -> str:
    """A response's id with the prefix that Messages ids have; the provider's id stays readable."""
    return given if given.startswith("msg_") else "msg_" + _refused.sub("_", given)
