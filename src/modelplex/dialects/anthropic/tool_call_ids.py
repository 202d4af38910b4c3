"""Ids that Anthropic's form takes, and that lead back to what a provider said.

Above it stand the reader of requests and the writer of answers; below it nothing. A client sends
each call's id back with its result, and keeps calls apart by it over the whole conversation.
Providers of other dialects use other characters, and some number their calls anew in every turn.
What fits goes as it is; the rest is packed so that it can be unpacked from the id alone: nothing is
remembered.
"""

from __future__ import annotations

import base64
import binascii
import re

PACKED = "mpx_"
"""Opens every id that was packed. A provider's own id that begins so is packed as well, so that no
id is unpacked that was not packed.
"""

_accepted = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_refused = re.compile(r"[^A-Za-z0-9_-]", re.ASCII)


def call_id(given: str, *, times: int) -> str:
    """The id of a call as its client gets it. `times` is how often the conversation has this id
    already.
    """
    if times == 0 and _accepted.fullmatch(given) and not given.startswith(PACKED):
        return given
    packed = base64.urlsafe_b64encode(f"{times}:{given}".encode("utf-8", "surrogatepass"))
    return PACKED + packed.rstrip(b"=").decode("ascii")


def given_id(sent: str) -> str:
    """The id as its provider said it; the one that was sent where that is not packed."""
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
    """An answer's id, with the prefix that every id of this form has; what the provider said stays
    readable in it.
    """
    return given if given.startswith("msg_") else "msg_" + _refused.sub("_", given)
