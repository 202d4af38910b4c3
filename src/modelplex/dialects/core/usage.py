"""Arithmetic on what providers count, shared by the readers of their usage objects.

It knows no dialect. Budgets count what is billed, so that a reader takes the larger of two counts
where an object contradicts itself.
"""

from __future__ import annotations

from msgspec.structs import replace

from modelplex.core.events import Usage

MOST_TOKENS = 2**40
"""A count above it is an error of the provider's. SQLite's integers have 63 bits, and a year of
such counts fits into them.
"""


def count(value: float | None) -> int:
    """A count as it came: never negative, so that no provider can lower what was spent."""
    return 0 if value is None else min(max(0, int(value)), MOST_TOKENS)


def counted(
    *, given: float | None, written: float | None, total: float | None, apart: float | None = None
) -> tuple[int, int]:
    """Input and output tokens of an object that has a total as well.

    What the total has above input and output is output: xAI bills reasoning beside
    `completion_tokens` (https://docs.x.ai/docs/guides/reasoning), and so does Google's endpoint in
    OpenAI's form. `apart` is reasoning; where there is no total and it is more than the output, it
    is not part of the output. Where no input is named, it is what the total leaves.
    """
    output = count(written)
    if total is None:
        reasoning = count(apart)
        return count(given), output + reasoning if reasoning > output else output
    if given is None:
        return max(0, count(total) - output), output
    return count(given), max(output, count(total) - count(given))


def of_vectors(usage: Usage | None) -> Usage | None:
    """The usage of embeddings: there is no output, and what a total has above the prompt's text is
    input too (images).
    """
    if usage is None or not usage.output:
        return usage
    return replace(usage, fresh=usage.fresh + usage.output, output=0)
