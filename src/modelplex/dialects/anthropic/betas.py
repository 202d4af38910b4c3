"""Which values of `anthropic-beta` go to a provider.

A beta is a name and a date ("context-management-2025-06-27"); the date changes. Source:
docs/reference/wire-formats.md#anthropic-api-versions and docs/reference/translation.md#rules.
"""

from __future__ import annotations


def allowed_betas(header: str) -> str:
    """The values in their order, each once; "" for none. Unknown values pass, since clients know
    newer ones.
    """
    values = (value.strip() for value in header.split(","))
    kept = dict.fromkeys(value for value in values if value)
    return ",".join(kept)
