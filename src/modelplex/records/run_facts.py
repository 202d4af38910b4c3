"""What held of a run of `modelplex run`: what its sandbox measured from inside at the start, and
the policy and the config that its gateway applied.
"""

from __future__ import annotations

import msgspec


class SandboxFacts(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Measured in the program's network namespace before the program starts.

    interfaces   names of network interfaces
    routes       routes that do not end at `lo`
    own_network  whether this is another network namespace than that of `modelplex run`
    openings     what the options of the run open besides the gateway, such as "allow-port 5432"
    """

    interfaces: tuple[str, ...]
    routes: int
    own_network: bool
    openings: tuple[str, ...] = ()


class RunFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Recorded when the program starts, and again after each change of the config.

    sealed   whether the sealed policy applied to the run's calls
    allowed  rules of the policy that are open for them
    models, tools  globs of what they may use; () for all
    version  the gateway's
    config   hex SHA-256 of the bytes of the config file; "" without one
    """

    id: str
    started: float
    run: str
    sandbox: SandboxFacts
    agent: str = ""
    listener: str = ""
    sealed: bool = False
    allowed: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    version: str = ""
    config: str = ""
