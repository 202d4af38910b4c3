"""Remembers endpoints that a provider turned out not to have.

A server of OpenAI's form may have chat completions alone. After a 404, 405 or 501 that is about the
path and not about a model or an item, a conversation goes to the provider's usual endpoint; a
request for anything else goes to the next candidate. Both also hold for later requests
(docs/decisions/0034-missing-endpoints.md).
"""

from __future__ import annotations

import re

from modelplex.core.errors import ModelplexError
from modelplex.core.request import Attempt
from modelplex.dialects.core.foreign_errors import PAGE_MARK

NO_SUCH_PATH = frozenset({404, 405, 501})
"""Statuses of services that do not have the endpoint."""
REMEMBERED_S = 3600.0
"""Seconds for which it is remembered: a server that is upgraded is asked again within the hour."""
MAX_REMEMBERED = 4096
"""Models times endpoints. Callers choose model names; when full, all are forgotten, which costs a
404 each.
"""
_CODES = frozenset({None, "not_found", "not_found_error", "unknown_url", "NOT_FOUND", "UNIMPLEMENTED"})
"""Codes of an error about a path. "model_not_found" and others are about something else."""
_PATH = re.compile(
    r"\b(?:url|uri|path|route|endpoint|method|page)\b|^\W*(?:404 |error[: ]+)?(?:(?:page|file|resource) )?not found\W*$",
    re.IGNORECASE,
)
"""Messages about a path: FastAPI's "Not Found", llama.cpp's "File Not Found", OpenAI's "Invalid URL
(POST /v1/x)". "Response with id 'resp_1' not found" is about an item.
"""
_UNEXPLAINED = (PAGE_MARK, "nothing that explains", "no error that can be read")
"""What our readers of errors say of a web server's own answer."""


def is_missing_endpoint(error: ModelplexError, attempt: Attempt) -> bool:
    """Whether an error says that the provider does not have the endpoint of the attempt."""
    status, code = error.upstream.status, error.upstream.code
    if status not in NO_SUCH_PATH or error.param is not None:
        return False
    if re.search(rf"(?<![\w.-]){re.escape(attempt.model)}(?![\w-])", error.message):
        return False
    if not (code in _CODES or str(code).isdecimal()):
        return False
    # A 404 is also the answer to the id of a response or a file that does not exist.
    said = error.message.removeprefix(f"The provider answered {status}").lstrip(":. ")
    is_unexplained = not said or any(mark in said for mark in _UNEXPLAINED)
    return status != 404 or is_unexplained or _PATH.search(said) is not None


class MissingEndpoints:
    """By provider, model and endpoint, until when it is remembered. Not by provider alone: a router
    may lack an endpoint for one model, and no caller may take an endpoint from another by the name
    of a model. `now` is seconds of a monotonic clock.
    """

    def __init__(self) -> None:
        self._until: dict[tuple[str, str, str], float] = {}
        self.version = 0
        """Of what was learnt: another number after each change."""

    def __repr__(self) -> str:
        return f"<MissingEndpoints {sorted(self._until)}>"

    def add(self, attempt: Attempt, *, now: float) -> None:
        if len(self._until) >= MAX_REMEMBERED:
            self._until.clear()
        self.version += 1
        self._until[attempt.provider, attempt.model, attempt.endpoint] = now + REMEMBERED_S

    def has(self, attempt: Attempt, *, now: float) -> bool:
        if not self._until:
            return False
        return now < self._until.get((attempt.provider, attempt.model, attempt.endpoint), 0.0)
