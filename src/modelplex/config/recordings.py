"""A config whose answers come from a recording: `modelplex replay`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from modelplex.config.read import with_demo
from modelplex.config.settings import Config, OnMiss, ProviderConfig, TypeFacts

NAME: Final = "replay"
UNUSED: Final = "unused"
"""The value of a variable that is not set: a key of a provider that is not asked."""
_REFERENCE: Final = re.compile(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class ReplayPlan(msgspec.Struct, frozen=True):
    """What `modelplex replay` answers from: ProviderConfig has the meanings."""

    run: str | None = None
    file: str | None = None
    on_miss: OnMiss = "fail"
    timing: bool = False
    live_tools: bool = False
    folder: str | None = None


def with_recording(config: Config, plan: ReplayPlan) -> Config:
    """The config with the recording as its first provider, and as the only one unless a request
    that was not recorded is to go to the others. Its limits, agents and policy stay; of its tool
    servers none is started but for live tools.
    """
    own = {each.name for each in config.providers if each.type != NAME}
    name = NAME
    while name in own:
        name += "-1"
    recording = ProviderConfig(
        name=name,
        type=NAME,
        run=plan.run,
        file=plan.file,
        on_miss=plan.on_miss,
        timing=plan.timing,
        live_tools=plan.live_tools,
        folder=plan.folder,
    )
    live = config.providers if plan.on_miss == "live" else ()
    aliases = config.aliases if live else {}
    mcp = config.mcp
    if not plan.live_tools:
        servers = mcp.servers if live else ()
        mcp = msgspec.structs.replace(mcp, enabled=True, servers=servers)
    return with_demo(msgspec.structs.replace(config, providers=(recording, *live), aliases=aliases, mcp=mcp))


def missing_variables(text: str, environ: Mapping[str, str], types: Iterable[TypeFacts]) -> dict[str, str]:
    """Values of the variables that a config needs only to ask providers, and that are not set."""
    names = {*_REFERENCE.findall(text), *(facts.key_env for facts in types if facts.key_env)}
    return {name: UNUSED for name in sorted(names) if not environ.get(name)}
