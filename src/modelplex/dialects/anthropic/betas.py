"""Values of `anthropic-beta`: which of them go on to a provider.

Above it stands whoever writes the provider's headers; below it nothing. A beta is named and dated
("context-management-2025-06-27"); the date changes, the name stays, so that names are told by how
they begin. Source: docs/reference/wire-formats.md#anthropic-api-versions and
docs/reference/translation.md#rules.
"""

from __future__ import annotations

PROVIDER_RUNS = (
    "mcp-client-",
    "mcp-tunnels-",
    "code-execution-",
    "web-search-",
    "web-fetch-",
    "files-api-",
    "skills-",
    "advisor-tool-",
    "message-threads-",
    "managed-agents-",
)
"""Betas with which the provider itself opens connections, runs code or keeps what it is given."""


def allowed_betas(header: str, *, held_back: tuple[str, ...] = ()) -> str:
    """The values that go on, in their order and each once; "" where none is left. `held_back` are
    beginnings of names (`PROVIDER_RUNS` where what the provider runs is not wanted). What is not
    known is no reason to hold a value back: clients are ahead of this page.
    """
    values = (value.strip() for value in header.split(","))
    kept = dict.fromkeys(value for value in values if value and not value.lower().startswith(held_back))
    return ",".join(kept)
