"""Values of `anthropic-beta`: which of them go on to a provider.

Above it stands whoever writes the provider's headers; below it nothing. A beta is named and dated
("context-management-2025-06-27"); the date changes, the name stays, so that names are told by how
they begin. Source: docs/reference/wire-formats.md#anthropic-api-versions and
docs/reference/translation.md#rules.
"""

from __future__ import annotations


def allowed_betas(header: str) -> str:
    """The values that go on, in their order and each once; "" where none is left. Unknown values
    go on: clients are ahead of this page.
    """
    values = (value.strip() for value in header.split(","))
    kept = dict.fromkeys(value for value in values if value)
    return ",".join(kept)
