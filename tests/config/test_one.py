"""A config with one listener alone."""

from modelplex.config import AgentConfig, Config, McpConfig, Secret, ServerConfig, on_one_socket

AGENT = AgentConfig(
    name="a",
    socket="./a.socket",
    socket_mode="0666",
    socket_group="staff",
    models=("m",),
    token=Secret("a-token-1"),
)
CONFIG = Config(
    server=ServerConfig(
        http=("127.0.0.1:1",), socket=("./m.socket",), vsock=(7,), socket_group="all", attest="require"
    ),
    mcp=McpConfig(enabled=True, stdio_socket="./lines"),
    agents=(AGENT, AgentConfig(name="b", socket="./b.socket")),
)


def test_an_agent_on_its_own_socket_keeps_all_that_it_has() -> None:
    made = on_one_socket(CONFIG, "./a.socket", agent="a")
    assert made.agents == (AGENT,)
    assert (made.server.http, made.server.socket, made.server.vsock) == ((), (), ())
    assert (made.server.socket_group, made.server.attest) == ("all", "require")
    assert made.mcp == McpConfig(enabled=True)


def test_at_another_path_the_socket_is_this_users_alone() -> None:
    made = on_one_socket(CONFIG, "/tmp/x", agent="a")
    (agent,) = made.agents
    assert (agent.socket, agent.socket_mode, agent.socket_group) == ("/tmp/x", "0600", None)
    assert made.server.socket_group is None
    assert agent.models == ("m",)


def test_an_agent_that_is_gone_has_no_listener() -> None:
    made = on_one_socket(CONFIG, "/tmp/x", agent="c")
    assert (made.agents, made.server.socket) == ((), ())


def test_without_an_agent_the_socket_is_nobodys_in_particular() -> None:
    made = on_one_socket(Config(server=CONFIG.server, mcp=CONFIG.mcp), "/tmp/x", agent=None)
    assert (made.agents, made.server.http, made.server.socket, made.server.vsock) == ((), (), ("/tmp/x",), ())
    assert made.mcp.stdio_socket is None
