"""Which values of `anthropic-beta` go to a provider: all of an open caller
(docs/reference/wire-formats.md#anthropic-api-versions), and under the sealed policy known names
with a date (docs/reference/isolation-requirements.md#anthropic-messages).

A beta is a name and a date ("context-management-2025-06-27"). The date changes, the name stays, and
betas.toml has what was decided for it. A value with free text would be a message, so nothing else
passes the policy.
"""

from __future__ import annotations

import datetime as dt
import pkgutil
import re
from collections.abc import Mapping
from functools import cache
from urllib.parse import quote

import msgspec

from modelplex.core.request import StrippedValue
from modelplex.dialects.dialect import Headers
from modelplex.policy.verdict import Facts

BETA = r"(?=.{1,64}\Z)[a-z0-9]+(?:-[a-z0-9]+)*"
"""The form of a beta. Other text could be a message of the client, and passes nowhere."""
VERSION_HEADER = b"anthropic-version"
BETA_HEADER = b"anthropic-beta"
A_VERSION = re.compile(rb"\d{4}-\d{2}-\d{2}")
"""The form of a version. Other text could be a message of the client."""
MAX_BETA = 64
"""Characters of a stripped beta that are reported; the longest known has some fifty."""
DATE = r"20[0-9]{2}-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12][0-9]|3[01])"
_DATED = re.compile(rf"([a-z0-9-]+?)-{DATE}")
_A_BETA = re.compile(BETA)


class Beta(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What was decided for a beta. `rule` is the rule of the policy that lets it pass, "" where it
    passes anyway. `about` is what it turns on, `source` from where that is known, `read` when.
    """

    about: str
    source: str
    read: dt.date
    rule: str = ""


@cache
def betas() -> Mapping[str, Beta]:
    """The known betas by their name without its date. Read at the first header."""
    data = pkgutil.get_data(__name__, "betas.toml")
    if data is None:
        raise FileNotFoundError("betas.toml is missing from the package")
    return msgspec.toml.decode(data, type=dict[str, Beta])


def allowed_betas(header: str) -> str:
    """The values of an open caller in their order, each once; "" for none. Unknown values pass,
    since clients know newer ones.
    """
    values = (value.strip() for value in header.split(","))
    return ",".join(dict.fromkeys(value for value in values if value))


def sealed_betas(header: str, facts: Facts) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The values that pass, in order, and those that do not. A name passes once: one beta with many
    dates could encode a message.
    """
    kept: dict[str, str] = {}
    dropped: dict[str, None] = {}
    for part in header.split(","):
        if not (value := part.strip()):
            continue
        name = _name(value) or value
        if not _passes(value, facts.allowed) or kept.get(name, value) != value:
            dropped[value] = None
        else:
            kept[name] = value
    return tuple(kept.values()), tuple(dropped)


def sealed_headers(given: Headers, facts: Facts) -> tuple[Headers, tuple[StrippedValue, ...]]:
    """The headers with a valid version and the betas that reach nothing outside, and what was
    stripped.
    """
    headers: list[tuple[bytes, bytes]] = []
    stripped: list[StrippedValue] = []
    betas: list[str] = []
    for name, value in given:
        if name == VERSION_HEADER and not A_VERSION.fullmatch(value) and "unknown-field" not in facts.allowed:
            stripped.append(StrippedValue(f"/{VERSION_HEADER.decode()}", "unknown-field"))
        elif name == BETA_HEADER:
            betas.append(value.decode("latin-1"))
        else:
            headers.append((name, value))
    # Several headers become one, so that a name passes once for all of them.
    kept, dropped = sealed_betas(",".join(betas), facts)
    if kept:
        headers.append((BETA_HEADER, ",".join(kept).encode("latin-1")))
    stripped += [StrippedValue(f"/{BETA_HEADER.decode()}/{printable(beta)}", "beta") for beta in dropped]
    return tuple(headers), tuple(stripped)


def printable(beta: str) -> str:
    """A beta as it is reported: the client's own text, cut and escaped."""
    return quote(beta[:MAX_BETA], safe="")


def _name(value: str) -> str:
    """The name of a beta up to its date, or "" for what is none."""
    dated = _DATED.fullmatch(value)
    return "" if dated is None else dated[1]


def _passes(value: str, allowed: frozenset[str]) -> bool:
    beta = betas().get(_name(value))
    if beta is not None and (not beta.rule or beta.rule in allowed):
        return True
    return "beta" in allowed and _A_BETA.fullmatch(value) is not None
