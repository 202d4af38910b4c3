"""Remembers endpoints that a provider turned out not to have.

A server of OpenAI's form may have chat completions alone. After a 404, 405 or 501 that is about the
path and not about a model or an item, a conversation goes to the provider's usual endpoint, also in
later requests.
"""

from __future__ import annotations

from modelplex.core.errors import ModelplexError
from modelplex.core.request import Attempt

NO_SUCH_PATH = frozenset({404, 405, 501})
"""Statuses of services that do not have the endpoint."""
REMEMBERED_S = 3600.0
"""Seconds for which it is remembered: a server that is upgraded is asked again within the hour."""
MAX_REMEMBERED = 1024
"""Providers times endpoints; more than any config has."""
_CODES = frozenset({None, "not_found", "not_found_error", "unknown_url"})
"""Codes of an error about a path. "model_not_found" and others are about something else."""


def is_missing_endpoint(error: ModelplexError, attempt: Attempt) -> bool:
    """Whether an error says that the provider does not have the endpoint of the attempt."""
    code = error.upstream.code
    return (
        error.upstream.status in NO_SUCH_PATH
        and (code in _CODES or str(code).isdecimal())
        and error.param is None
        and attempt.model not in error.message
    )


class MissingEndpoints:
    """By provider and endpoint, until when it is remembered. `now` is seconds of a monotonic
    clock.
    """

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], float] = {}

    def __repr__(self) -> str:
        return f"<MissingEndpoints {sorted(self._until)}>"

    def add(self, attempt: Attempt, *, now: float) -> None:
        if len(self._until) >= MAX_REMEMBERED:
            self._until.clear()
        self._until[attempt.provider, attempt.endpoint] = now + REMEMBERED_S

    def has(self, attempt: Attempt, *, now: float) -> bool:
        if not self._until:
            return False
        return now < self._until.get((attempt.provider, attempt.endpoint), 0.0)
