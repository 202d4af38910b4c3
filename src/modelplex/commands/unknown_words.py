"""What was meant by a command or an option that does not exist. Loads difflib, so it is imported
for a faulty command line only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Final

from modelplex.commands.parser_rows import CommandRow

SYNONYMS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("serve", "start", "up", "server", "gateway", "proxy"), ""),
    **dict.fromkeys(("exec", "sandbox", "launch"), "run"),
    **dict.fromkeys(("validate", "lint", "doctor", "test"), "check"),
    **dict.fromkeys(("setup", "configure", "config", "new", "onboard", "wizard"), "init"),
    **dict.fromkeys(("tools", "servers"), "mcp list"),
    **dict.fromkeys(("logs", "log", "follow"), "tail"),
    **dict.fromkeys(("cost", "costs", "spend", "spending", "stats"), "usage"),
    **dict.fromkeys(("history", "ls", "list", "ps"), "runs"),
    **dict.fromkeys(("kill", "cancel"), "stop"),
    "version": "--version",
    "manual": "man",
}
"""Words of similar programs; "" is `modelplex` without a command."""


def explain(row: CommandRow, words: Iterable[str]) -> str | None:
    """A sentence about the first word that is no command or option of `row`, the whole command
    line; None if all are known.
    """
    whole, is_value = row, False
    for word in words:
        if word == "--":
            return None
        if is_value:
            is_value = False
        elif word.startswith("-") and len(word) > 1:
            flag, equals, _ = word.partition("=")
            option = row.option(flag)
            if option is None:
                return _unknown_option(flag, row, whole)
            is_value = bool(option.metavar or option.values) and not equals
        elif row.commands:
            below = row.command(word)
            if below is None:
                return _unknown_command(word, row)
            row = below
        elif row.runs_a_program:
            return None
    return None


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word that was meant, if one is near. Dashes do not count."""
    plain = {each.lstrip("-"): each for each in known}
    found = get_close_matches(word.lower().lstrip("-"), plain, n=1)
    return plain[found[0]] if found else None


def _unknown_command(word: str, row: CommandRow) -> str:
    missing = f'`{row.name}` has no command "{word}"'
    if " " not in row.name and (meant := SYNONYMS.get(word)) is not None:
        without = f"`{row.name}` without a command serves"
        return f"{missing}; {without if not meant else f'did you mean `{row.name} {meant}`?'}"
    known = [each.word for each in row.commands]
    if near := nearest(word, known):
        return f"{missing}; did you mean `{row.name} {near}`?"
    return f"{missing}; its commands: {', '.join(known)}"


def _unknown_option(flag: str, row: CommandRow, whole: CommandRow) -> str:
    missing = f"`{row.name}` has no option {flag}"
    having = [each.name for each in whole.all() if each.option(flag) is not None]
    if having:
        return f"{missing}; `{'`, `'.join(having[:3])}` {'has' if len(having) == 1 else 'have'} it"
    known = [name for each in row.options for name in each.flags if name.startswith("--")]
    if near := nearest(flag, known):
        return f"{missing}; did you mean {near}?"
    return f"{missing}; `{row.name} --help` lists them"
