"""Errors of provider responses that broke, for readers, writers and observers alike.

Imports no dialect.
"""

from __future__ import annotations

from modelplex.core.errors import UpstreamBroken

ENDED_EARLY = "The provider's stream ended before its end: "
HALF_ARGUMENTS = "The provider ended a tool call whose arguments are not JSON."
NOT_JSON = "The provider's stream holds something that is not JSON."


def ended_early() -> UpstreamBroken:
    """The error of a response without a finish reason."""
    return UpstreamBroken("The provider's answer ended before its end.")


def unreadable(error: Exception) -> UpstreamBroken:
    """The error of a response that is not JSON, or has another shape than its dialect."""
    return UpstreamBroken(f"The provider's response has an unexpected form: {error}")
