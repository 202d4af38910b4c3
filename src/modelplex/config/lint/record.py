"""Checks of `[record]`."""

from __future__ import annotations

from collections.abc import Iterator

from modelplex.config.lint.finding import ConfigFinding, LintContext


def tokens_without_bodies(context: LintContext) -> Iterator[ConfigFinding]:
    record = context.config.record
    if record.tokens and record.content in {"metadata", "off"}:
        message = f'no token ids are kept with content = "{record.content}"'
        remedy = 'they say what bodies say: set content = "full"'
        yield context.error("tokens-without-bodies", ("record", "tokens"), message, remedy)
