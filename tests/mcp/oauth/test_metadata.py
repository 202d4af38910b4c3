import pytest

from modelplex.mcp.oauth.metadata import covers, is_private, issuer_places, resource_places


def test_places_are_in_the_order_of_the_specification() -> None:
    assert list(resource_places("https://x/mcp")) == [
        "https://x/.well-known/oauth-protected-resource/mcp",
        "https://x/.well-known/oauth-protected-resource",
    ]
    assert list(issuer_places("https://x/t")) == [
        "https://x/.well-known/oauth-authorization-server/t",
        "https://x/.well-known/openid-configuration/t",
        "https://x/t/.well-known/openid-configuration",
    ]


@pytest.mark.parametrize(
    ("resource", "covered"),
    [
        ("https://X", True),
        ("https://x:443/mcp", True),
        ("https://x/mc", False),
        ("https://y/mcp", False),
        ("http://x/mcp", False),
    ],
)
def test_a_resource_covers_what_is_below_its_path(resource: str, *, covered: bool) -> None:
    assert covers(resource, "https://x/mcp") is covered


@pytest.mark.parametrize(
    ("url", "server", "private"),
    [
        ("https://a/t", "https://x", True),
        ("http://a/t", "https://x", False),
        ("https://127.0.0.1/t", "https://x", False),
        ("http://localhost:1/t", "http://127.0.0.1:2", True),
        ("http://localhost:1/t", "https://x", False),
    ],
)
def test_a_remote_server_names_no_service_of_this_machine(url: str, server: str, *, private: bool) -> None:
    assert is_private(url, server=server) is private
