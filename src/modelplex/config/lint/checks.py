"""Runs all checks on a config.

They read the config file once more, and look at the files, folders and programs that it names. They
send nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from modelplex.config import Config
from modelplex.config.lint.bounds import disjoint_bounds, unused_bounds
from modelplex.config.lint.finding import Check, ConfigFinding, LintContext
from modelplex.config.lint.keys import file_mode, placeholders, unexpanded_variables
from modelplex.config.lint.models import aliases, models_of_agents, prices_of_budgets
from modelplex.config.lint.record import tokens_without_bodies
from modelplex.config.lint.system import commands_of_tools, disabled_tools, folders, open_listeners, sockets
from modelplex.config.lint.workers import workers

CHECKS: Final[tuple[Check, ...]] = (
    *(unexpanded_variables, placeholders, file_mode),
    *(aliases, models_of_agents, prices_of_budgets),
    *(disjoint_bounds, unused_bounds),
    *(open_listeners, sockets, folders, disabled_tools, commands_of_tools, workers),
    tokens_without_bodies,
)


def lint(
    config: Config, *, environ: Mapping[str, str], overridden: Sequence[str] = ()
) -> list[ConfigFinding]:
    """All findings, by line. `overridden` are the options of the command line that replaced
    settings of the file, such as "--socket".
    """
    context = LintContext(config, environ=environ, overridden=overridden)
    findings = [finding for check in CHECKS for finding in check(context)]
    return sorted(findings, key=lambda each: (each.line or 0, each.key, each.code))
