"""Arithmetic on token counts, shared by the readers of usage objects.

Budgets count what is billed: where an object contradicts itself, the larger of two counts is used.
Imports no dialect.
"""

from __future__ import annotations

from msgspec.structs import replace

from modelplex.core.events import Usage

MOST_TOKENS = 2**40
"""Larger counts are an error of the provider. A year of such counts fits into SQLite's 63 bits."""


def count(value: float | None) -> int:
    """A count, never negative, so that no provider can lower what was spent."""
    return 0 if value is None else min(max(0, int(value)), MOST_TOKENS)


def counted(
    *, given: float | None, written: float | None, total: float | None, apart: float | None = None
) -> tuple[int, int]:
    """Input and output tokens of a usage object that may have a total.

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
    """The usage of embeddings, which have no output: what a total has above the prompt's text is
    input as well (images).
    """
    if usage is None or not usage.output:
        return usage
    return replace(usage, fresh=usage.fresh + usage.output, output=0)
