"""Which values of `anthropic-beta` go on from a sealed caller: an allow-list by the beginnings of names (isolation.md 5.4).

Above it stands whoever writes a provider's headers; below it the rules. A beta is named and dated; the date changes and the name stays.
"""

from __future__ import annotations

from modelplex.policy.verdict import Facts

BETA = r"(?=.{1,64}\Z)[a-z0-9]+(?:-[a-z0-9]+)*"
"""What betas look like. Any other text would be a message of the client's own, and passes nowhere."""

KEPT = (
    "claude-code-",
    "interleaved-thinking-",
    "thinking-",
    "context-1m-",
    "context-management-",
    "prompt-caching-",
    "extended-cache-ttl-",
    "output-128k-",
    "output-300k-",
    "token-",
    "structured-outputs-",
    "task-budgets-",
    "compact-",
    "computer-use-",
    "model-context-window-exceeded-",
    "mid-conversation-output-config-",
    "mid-conversation-system-clear-at-",
    "pdfs-",
)
"""Beginnings of the names that only shape an answer."""
OPENED_BY: tuple[tuple[str, str], ...] = (
    ("mcp-", "remote-mcp"),
    ("code-execution-", "code-execution"),
    ("skills-", "code-execution"),
    ("web-search-", "web-search"),
    ("web-fetch-", "web-fetch"),
    ("files-api-", "stored-file"),
    ("advisor-tool-", "second-model"),
    ("server-side-fallback-", "second-model"),
    ("message-threads-", "stored-state"),
    ("inline-tools-", "unknown-tool"),
    ("mid-conversation-tool-changes-", "unknown-tool"),
    ("fast-mode-", "price"),
    ("fallback-credit-", "price"),
    ("user-profiles-", "identity"),
)
"""What needs a beta is opened together with it."""


def allowed_beta(value: str) -> bool:
    """Whether a single value may go on where no rule is open."""
    return value.startswith(KEPT)


def sealed_betas(header: str, facts: Facts) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The values that go on, in their order and each once, and those that do not."""
    values = tuple(dict.fromkeys(value for part in header.split(",") if (value := part.strip())))
    kept = tuple(value for value in values if _passes(value, facts.allowed))
    return kept, tuple(value for value in values if value not in kept)


def _passes(value: str, allowed: frozenset[str]) -> bool:
    opened = any(value.startswith(begins) and rule in allowed for begins, rule in OPENED_BY)
    return allowed_beta(value) or opened or "beta" in allowed
