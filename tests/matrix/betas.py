"""What was decided for each value of `anthropic-beta`: docs/reference/betas.md, from betas.toml."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from modelplex.dialects.anthropic.betas import Beta, betas

BETAS_PAGE = Path(__file__).parents[2] / "docs/reference/betas.md"
HEAD = """# Betas of Anthropic

Made by `make matrix` from the table of betas. A value of the header `anthropic-beta` is one of these names and a date
(`context-management-2025-06-27`).

A beta goes to providers of Anthropic's dialect alone, and only from a client of that dialect: a translated request has
none. Of an open caller each value passes, known or not. The [sealed policy](policy.md) lets those pass that turn on
nothing but what it judges in the body; another passes where its rule is open, or the rule `beta`. A name passes once
and with a date; even where `beta` is open, a value is at most 64 lower-case letters, digits and dashes. What is dropped
stands in `x-modelplex-stripped` and in the log.

A service that refuses a value is asked once more without it, which is remembered and reported
([asked again without](../decisions/0033-asked-again-without-a-parameter.md)).

A test compares the table with the types of the official client and with the program of Claude Code, both pinned: a
name that is in neither row of it fails by that name.

"""


def betas_page(markdown: Callable[[Sequence[str], Sequence[Sequence[str]]], str]) -> str:
    rows = [_cells(name, beta) for name, beta in betas().items()]
    return HEAD + markdown(("name", "sealed", "what it turns on", "source", "read"), rows)


def _cells(name: str, beta: Beta) -> list[str]:
    source = "; ".join(
        f"<{each}>" if each.startswith("https://") else each for each in beta.source.split("; ")
    )
    passes = f"dropped, passes with `{beta.rule}`" if beta.rule else "passes"
    return [
        f"`{name}`",
        passes,
        beta.about,
        source.replace("_", "\\_") if "<" not in source else source,
        str(beta.read),
    ]
