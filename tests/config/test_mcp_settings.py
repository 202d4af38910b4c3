import pytest

from modelplex.config.mcp_settings import McpOAuth, McpServer
from modelplex.config.secret import Secret


@pytest.mark.parametrize(
    ("server", "may"),
    [
        (McpServer(name="a", url=Secret("https://a/mcp")), True),
        (McpServer(name="a", url=Secret("https://a/mcp"), headers={"X-Team": Secret("t")}), True),
        (McpServer(name="a", url=Secret("https://a/mcp"), headers={"AUTHORIZATION": Secret("t")}), False),
        (McpServer(name="a", url=Secret("unix:/run/a.sock")), False),
        (McpServer(name="a", command="a"), False),
    ],
)
def test_a_token_is_sent_only_to_a_remote_server_without_one(server: McpServer, *, may: bool) -> None:
    assert server.may_sign_in is may


def test_tasks_are_no_request_of_a_client() -> None:
    server = McpServer(name="a", allow=("sampling", "tasks", "roots"))
    assert (server.client_requests, server.tasks) == (("sampling", "roots"), True)
    assert not McpServer(name="a").tasks


@pytest.mark.parametrize(
    ("grant", "by_itself"),
    [("authorization_code", False), ("client_credentials", True), ("jwt_bearer", True)],
)
def test_a_person_signs_in_for_a_code_alone(grant: str, *, by_itself: bool) -> None:
    assert McpOAuth(grant=grant).by_itself is by_itself  # type: ignore[arg-type]
    assert not McpOAuth().by_itself


def test_no_secret_is_in_a_repr() -> None:
    server = McpServer(
        name="a", url=Secret("https://a/mcp?key=k1"), env={"K": Secret("k2")}, args=(Secret("k3"),)
    )
    shown = repr(server) + repr(McpOAuth(client_secret=Secret("k4")))
    assert not any(f"k{number}" in shown for number in range(1, 5))
