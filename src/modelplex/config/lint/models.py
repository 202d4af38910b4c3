"""Checks of model names: targets of aliases, models of agents, and prices of their budgets."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from modelplex.config import Config
from modelplex.config.lint.finding import ConfigFinding, LintContext
from modelplex.config.toml_positions import Path as Place
from modelplex.core.errors import UnknownModel
from modelplex.pipeline.model_catalog import directory_of
from modelplex.providers import demo
from modelplex.records.unpriced import unpriced_models
from modelplex.routing.aliases import Candidate, Directory, ServedModels, is_pattern, resolve

MAX_NAMED: Final = 5
"""Models that one finding names."""


def aliases(context: LintContext) -> Iterator[ConfigFinding]:
    """A target is requested as it stands: an alias cannot name another alias."""
    config = context.config
    directory = _directory(config)
    names = [provider.name for provider in config.providers]
    for alias, targets in config.aliases.items():
        for index, target in enumerate(targets):
            place = context.element(index, "aliases", alias)
            if is_pattern(target) or _is_served(directory, target):
                continue
            if target in config.aliases:
                yield _alias_of_alias(context, alias, target, place)
                continue
            provider, slash, model = target.partition("/")
            is_other = slash and provider not in names
            near = get_close_matches(provider, names, n=1, cutoff=0.75) if is_other else []
            if near or not _candidates(directory, target):
                remedy = f'did you mean "{near[0]}/{model}"?' if near else _remedy(directory, target)
                message = f'no provider here serves "{target}"'
                yield context.error("unknown-target", place, message, remedy)


def _alias_of_alias(context: LintContext, alias: str, target: str, place: Place) -> ConfigFinding:
    known = context.config.aliases
    seen, step = [alias], target
    while step in known and step not in seen:
        seen.append(step)
        step = next(iter(known[step]), "")
    if step in seen:
        loop = " -> ".join([*seen[seen.index(step) :], step])
        message = f"this alias leads to itself: {loop}"
        return context.error("alias-loop", place, message, "name a model that a provider serves")
    models = ", ".join(f'"{each}"' for each in known[target])
    message = f'"{target}" is an alias, and an alias cannot name another'
    return context.error("alias-of-alias", place, message, f"name its models: {models}")


def _directory(config: Config) -> Directory:
    """Which provider serves what, as far as it is known without a request."""
    directory = directory_of(config)
    types = {provider.name: provider.type for provider in config.providers}
    listed = frozenset(demo.MODELS)
    served = tuple(
        msgspec.structs.replace(each, listed=listed) if types[each.provider] == "demo" else each
        for each in directory.served
    )
    return msgspec.structs.replace(directory, served=served)


def _candidates(directory: Directory, name: str) -> tuple[Candidate, ...]:
    """The providers that may serve a model; aliases are not followed."""
    try:
        return resolve(Directory(directory.served), name)
    except UnknownModel:
        return ()


def _is_served(directory: Directory, name: str) -> bool:
    """Whether a provider is known to serve it, or is named in it and may serve it."""
    served = {each.provider: each for each in directory.served}
    named = directory.provider_of(name)
    return any(
        served[candidate.provider].has(candidate.model)
        or (named is not None and named.provider == candidate.provider)
        for candidate in _candidates(directory, name)
    )


def _remedy(directory: Directory, name: str) -> str:
    known = [each for each in directory.model_names() if each not in directory.aliases]
    if near := get_close_matches(name, known, n=1):
        return f'did you mean "{near[0]}"?'
    return 'write "provider/model", or add the model to the models of a provider'


def models_of_agents(context: LintContext) -> Iterator[ConfigFinding]:
    config = context.config
    directory = _directory(config)
    if any(_is_open_ended(each) for each in directory.served) or any(map(is_pattern, config.aliases)):
        return  # what a provider lists, or a pattern matches, is not known here
    known = [
        *directory.model_names(),
        *(f"{each.provider}/{model}" for each in directory.served for model in each.model_names()),
    ]
    for index, agent in enumerate(config.agents):
        dead = [glob for glob in agent.models if not any(fnmatchcase(name, glob) for name in known)]
        make = context.error if len(dead) == len(agent.models) else context.warning
        for glob in dead:
            place: Place = ("agents", index, "models", agent.models.index(glob))
            yield make("unknown-model", place, f'no model here matches "{glob}"', _remedy(directory, glob))


def _is_open_ended(served: ServedModels) -> bool:
    return bool(served.patterns) or (not served.configured and served.listed is None)


def prices_of_budgets(context: LintContext) -> Iterator[ConfigFinding]:
    """A budget in dollars does not count models without a known price."""
    found = unpriced_models(context.config, directory_of(context.config))
    for index, agent in enumerate(context.config.agents):
        mine = [each for each in found if each.agent == agent.name]
        if not mine:
            continue
        names = [
            f"{each.provider}/{each.model}" if each.model else f"all of {each.provider}" for each in mine
        ]
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        effect = (
            "requests for them are refused" if mine[0].refused else "the budget counts no dollars for them"
        )
        yield context.warning(
            "unpriced-budget",
            ("agents", index, "budget"),
            f"no price is known of {', '.join(names[:MAX_NAMED])}{more}: {effect}",
            'name prices in [[prices]], set on_unpriced = "refuse", or give a budget of tokens',
        )
