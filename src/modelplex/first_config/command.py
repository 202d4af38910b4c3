"""`modelplex init`: asks what of the found is used, writes the config, checks it, and says what to
run next.

Questions and answers go over the terminal; without one the options decide.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from modelplex.config import TypeFacts, provider_types
from modelplex.config.detected import DEMO
from modelplex.first_config.found import Found, FoundProvider, find_all, provider_of
from modelplex.first_config.text import config_text

DEFAULT_OUTPUT: Final = "config.toml"
NONE: Final = "-"
"""The answer for no fallback."""
MODE: Final = 0o600
"""Of the written file: it has no key, and whoever adds one later should not have to think of it."""


class InitFault(Exception):
    """The text is a sentence."""

    @property
    def sentence(self) -> str:
        return str(self)


def init(arguments: argparse.Namespace, *, check: Callable[[str], int]) -> int:
    """`check` checks a config and returns the exit status, which is that of this command. Raises
    InitFault and ConfigError.
    """
    output: str = arguments.output or DEFAULT_OUTPUT
    if os.path.lexists(output) and not arguments.force:
        raise InitFault(f"{output} exists: --force replaces it, --output FILE writes another file.")
    types = provider_types()
    found = find_all()
    asked = not (arguments.yes or arguments.provider)
    if asked and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InitFault(
            "there is no terminal to ask in: --yes takes what is found, --provider TYPE names one."
        )
    _say_found(found)
    if asked:
        providers = _ask_providers(found, types)
        fallback = _ask_fallback(providers)
    else:
        providers = _named(arguments.provider or [], found, types)
        fallback = next((each.model for each in providers if each.model), "")
    _write(output, config_text(providers, fallback=fallback, agents=found.agents), replaces=arguments.force)
    missing = [each.variable for each in providers if each.variable and not os.environ.get(each.variable)]
    if missing:
        _say(f"wrote {output}. Set {' and '.join(missing)} in the environment, and then: modelplex check")
        return 0
    _say(f"wrote {output}:")
    status = check(output)
    if status == 0:
        _say(f"next: {_next(found, output)}")
    return status


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _say_found(found: Found) -> None:
    _say("found:")
    for each in found.providers:
        _say(f"  {each.name}: {each.source}")
    if not found.providers:
        _say("  no key in the environment, and no Ollama")
    for agent in found.agents:
        _say(f"  {agent.title}, which requests {agent.model}")


# --- what is used ---


def _named(names: Sequence[str], found: Found, types: Mapping[str, TypeFacts]) -> list[FoundProvider]:
    """The providers of these names, all that were found without a name, or the demo. Raises
    InitFault.
    """
    if not names:
        return list(found.providers) or [_provider(DEMO, found, types)]
    return [_provider(name, found, types) for name in dict.fromkeys(names)]


def _provider(name: str, found: Found, types: Mapping[str, TypeFacts]) -> FoundProvider:
    known = next((each for each in found.providers if each.name == name), None) or provider_of(name, types)
    if known is not None:
        return known
    if name in types:
        raise InitFault(f'the address of "{name}" is yours to know: write its [[providers]] with a base_url.')
    near = get_close_matches(name, types, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"there are: {', '.join(sorted(types))}."
    raise InitFault(f'there is no type of provider "{name}": {hint}')


def _ask_providers(found: Found, types: Mapping[str, TypeFacts]) -> list[FoundProvider]:
    usual = ", ".join(each.name for each in found.providers) or DEMO
    while True:
        names = _ask("providers", usual).replace(",", " ").split()
        try:
            return _named(names, found, types)
        except InitFault as fault:
            _say(fault.sentence)


def _ask_fallback(providers: Sequence[FoundProvider]) -> str:
    """The target of the alias `"*"`: of one of the providers."""
    usual = next((each.model for each in providers if each.model), NONE)
    names = [each.name for each in providers]
    while True:
        answer = _ask(f"model for every other name, as PROVIDER/MODEL ({NONE} for none)", usual)
        provider, slash, model = answer.partition("/")
        if answer == NONE:
            return ""
        if slash and model and provider in names:
            return answer
        _say(f"it begins with {' or '.join(f'{name}/' for name in names)}")


def _ask(question: str, usual: str) -> str:
    """Raises KeyboardInterrupt, and InitFault at the end of the input."""
    sys.stderr.write(f"{question} [{usual}]: ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer:
        raise InitFault("the input has ended: nothing was written.")
    return answer.strip() or usual


# --- the file ---


def _write(output: str, text: str, *, replaces: bool) -> None:
    """Raises InitFault."""
    path = Path(output)
    try:
        if not replaces:
            with open(path, "x", encoding="utf-8", opener=_private) as file:
                file.write(text)
            return
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as new:
            new.write(text)
        Path(new.name).replace(path)
    except FileExistsError:
        raise InitFault(f"{output} exists: --force replaces it, --output FILE writes another file.") from None
    except OSError as error:
        raise InitFault(f"{output} cannot be written: {(error.strerror or 'an error').lower()}.") from None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, MODE)


def _next(found: Found, output: str) -> str:
    config = "" if output == DEFAULT_OUTPUT else f" --config {shlex.quote(output)}"
    if found.agents and sys.platform.startswith("linux"):
        return f"modelplex run{config} {found.agents[0].preset}"
    return f"modelplex{config}"
