"""What is known of each type of provider, and from where: docs/reference/providers-verified.md.

From the rows of compatible.toml.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from modelplex.providers import all_specs
from modelplex.providers.specs import ProviderSpec

PROVIDERS_PAGE = Path(__file__).parents[2] / "docs/reference/providers-verified.md"
UNSENT = ("demo", "replay")
"""Types that ask no service."""
HEAD = """# Providers and their sources

What the gateway knows of each type of provider, and where it is from. Made by `make matrix` from the table of
providers. A member that a service refuses is left out of requests to it and reported. What a service only ignores is
sent. A refusal that is not listed here is learnt from the error:
[asked again without](../decisions/0033-asked-again-without-a-parameter.md). `tools.parameters.combined` is a tool's
schema with `anyOf`, `oneOf` or `allOf` at its top, which is written as an object without them.

"""


def providers_page(markdown: Callable[[Sequence[str], Sequence[Sequence[str]]], str]) -> str:
    rows = [row for row in all_specs().values() if row.name not in UNSENT]
    return HEAD + markdown(
        ("type", "page", "left out, since it is refused", "read", "what was read"),
        [_cells(row) for row in rows],
    )


def _cells(row: ProviderSpec) -> list[str]:
    refuses = ", ".join(f"`{name}`" for name in row.quirks.refuses)
    sources = "; ".join(_link(source) for source in row.refusals)
    what = f"{refuses} (from {sources})" if sources else refuses
    return [f"`{row.name}`", f"<{row.docs}>", what or "-", str(row.read), _words(row.note)]


def _link(source: str) -> str:
    address, _, rest = source.partition(" ")
    return f"<{address}> {rest}".rstrip() if address.startswith("https://") else source


def _words(note: str) -> str:
    """The note with links, and without what Markdown reads as a mark."""
    words = [_link_at_end(word) for word in note.replace("_", "\\_").split(" ")]
    return " ".join(words)


def _link_at_end(word: str) -> str:
    if not word.startswith("https://"):
        return word
    address = word.rstrip(":;,.)")
    return f"<{address.replace(chr(92), '')}>{word[len(address) :]}"
