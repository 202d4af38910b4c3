"""The start of a gateway: what has to be done before the rest of it is loaded.

The launcher of a confined gateway is a copy of this process at the time of its fork, and has the
memory of that time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from modelplex.config import Config
from modelplex.config.workers import assign
from modelplex.server.confined import confine_process
from modelplex.server.service_manager import ServiceManager, service_manager

if TYPE_CHECKING:
    from modelplex.server.run_control import RunControl


def run(
    config: Config,
    *,
    config_path: str | None,
    verbose: bool,
    adapt: Callable[[Config], Config] = lambda config: config,
    control: Callable[[], RunControl | None] | None = None,
    is_of_runs: bool = False,
) -> int:
    """Serve until a signal, or, where the gateway `is_of_runs`, until no run is attached. Returns
    the exit status. An exception that prevents the start has a `sentence`. `adapt` is applied to
    each config that is loaded later; `config` is adapted already. `control` makes what runs attach
    to, which several workers do not have.
    """
    if config.server.workers > 1 and not is_of_runs and assign(config).count > 1:
        from modelplex.server.workers import supervisor

        return supervisor.run(config, config_path=config_path, verbose=verbose, adapt=adapt)
    # A confined process makes no socket to the manager.
    manager = ServiceManager() if is_of_runs else service_manager(os.environ)
    confinement = confine_process(config, config_path=config_path, adapt=adapt)

    from modelplex.server import process

    return process.run(
        config,
        config_path=config_path,
        verbose=verbose,
        adapt=adapt,
        control=None if control is None else control(),
        manager=manager,
        confinement=confinement,
    )
