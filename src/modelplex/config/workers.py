"""Which worker serves which listener, for `[server] workers`.

A socket belongs to one worker, so that the limits, sessions and stored responses of its callers are
in one process. HTTP listeners are served by every worker, unless something ties their callers to
one process: then by the first worker.
"""

from __future__ import annotations

import msgspec

from modelplex.config.settings import Config


class Assignment(msgspec.Struct, frozen=True):
    """Workers are numbered from 1.

    count    workers that have something to serve, or may get agents by the API: at most `workers`
    tied     why HTTP listeners are served by the first worker alone; "" if every worker has them
    sockets  the worker of each socket path and of each "vsock:PORT"
    agents   the worker of each agent with a socket; the others belong to the first
    """

    count: int
    tied: str
    sockets: dict[str, int]
    agents: dict[str, int]

    def worker_of(self, agent: str) -> int:
        return self.agents.get(agent, 1)

    def worker_of_socket(self, path: str) -> int:
        """A path that only systemd knows is served by the first."""
        return self.sockets.get(path, 1)

    def served_by(self, number: int, config: Config) -> list[str]:
        """The listeners of one worker."""
        http = config.server.http if not self.tied or number == 1 else ()
        return [*http, *(name for name, owner in self.sockets.items() if owner == number)]


def assign(config: Config) -> Assignment:
    """The same config gives the same assignment. Sockets go, in the order of the file, to the
    worker with the fewest.
    """
    server, tied = config.server, why_tied(config)
    loads = [0] * server.workers
    has_tokens = any(agent.token is not None for agent in config.agents)
    shared = [*server.socket, *(f"vsock:{port}" for port in server.vsock)]
    own = [(agent, agent.socket) for agent in config.agents if agent.socket is not None]
    # A token is accepted on every shared listener, and its agent may have a socket too.
    pinned = [*shared] * has_tokens + [socket for agent, socket in own if agent.token is not None]
    free = [*shared, *(socket for _, socket in own)]
    loads[0] = len(pinned) + bool(tied and server.http) + bool(has_stdio_socket(config))
    sockets = dict.fromkeys(pinned, 1)
    if server.admin_socket is not None:
        sockets[server.admin_socket] = 1
    for name in free:
        if name not in sockets:
            least = loads.index(min(loads))
            loads[least] += 1
            sockets[name] = least + 1
    spread = bool(server.http) and not tied
    all_serve = spread or server.admin_socket is not None
    return Assignment(
        count=server.workers if all_serve else max(1, sum(load > 0 for load in loads)),
        tied=tied,
        sockets=sockets,
        agents={agent.name: sockets[socket] for agent, socket in own},
    )


def extended(assignment: Assignment, config: Config) -> Assignment:
    """The assignment of running workers for the agents of another config. A socket that is served
    stays where it is; a new one goes to the worker with the fewest, or to the first if its agent
    has a token.
    """
    server = config.server
    fixed = {*server.socket, *(f"vsock:{port}" for port in server.vsock), server.admin_socket}
    own = {agent.socket: agent for agent in config.agents if agent.socket is not None}
    sockets = {name: n for name, n in assignment.sockets.items() if name in fixed or name in own}
    loads = [0] * assignment.count
    for number in sockets.values():
        loads[number - 1] += 1
    for path, agent in own.items():
        if path not in sockets:
            sockets[path] = 1 if agent.token is not None else loads.index(min(loads)) + 1
            loads[sockets[path] - 1] += 1
    agents = {agent.name: sockets[path] for path, agent in own.items()}
    return msgspec.structs.replace(assignment, sockets=sockets, agents=agents)


def reload_conflict(assignment: Assignment, config: Config) -> str:
    """Why running workers cannot adopt this config; "" if they can. The assignment is extended for
    it.
    """
    spread = bool(config.server.http) and not assignment.tied
    server = config.server
    shared = [*server.socket, *(f"vsock:{port}" for port in server.vsock)]
    if spread and config.mcp.enabled:
        return "[mcp] is enabled, and HTTP is served by several workers"
    for agent in config.agents:
        if agent.token is not None and (
            spread
            or assignment.worker_of(agent.name) != 1
            or any(assignment.sockets.get(name, 1) != 1 for name in shared)
        ):
            return f"the agent {agent.name!r} has a token, and its limits would be counted in several workers"
    return ""


def has_stdio_socket(config: Config) -> bool:
    return config.mcp.enabled and config.mcp.stdio_socket is not None


def why_tied(config: Config) -> str:
    """Why the callers of HTTP listeners need one process; "" if they do not. A connection goes to
    any worker, so what a worker keeps of a caller would be missing in the others.
    """
    if any(agent.token is not None for agent in config.agents):
        return "an agent has a token, and its limits are counted in one process"
    if config.mcp.enabled:
        return "[mcp] is enabled, and its sessions are in one process"
    if config.server.keep_responses == "memory":
        return 'keep_responses is "memory", which is that of one process'
    return ""
