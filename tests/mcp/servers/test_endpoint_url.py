"""URLs of remote servers."""

import pytest

from modelplex.mcp.servers.endpoint_url import parse_endpoint_url


@pytest.mark.parametrize(
    ("url", "location", "target"),
    [
        ("https://a.example/mcp", "/other?x=1", "/other?x=1"),
        ("https://a.example/mcp/", "messages", "/mcp/messages"),
        ("https://a.example/mcp", "https://a.example:443/m", "/m"),
        ("https://a.example/mcp", "http://a.example/m", None),
        ("https://a.example/mcp", "https://b.example/m", None),
        ("https://a.example/mcp", "//b.example/m", None),
        ("https://a.example/mcp", "https://u:p@a.example/m", None),
        ("unix:/run/s.sock:/mcp", "/m", "/m"),
        ("unix:/run/s.sock:/mcp", "http://b.example/m", None),
    ],
)
def test_only_addresses_of_the_same_origin_are_followed(url: str, location: str, target: str | None) -> None:
    resolved = parse_endpoint_url(url).resolve(location)
    assert (resolved.target if resolved else None) == target


def test_a_targets_slash_and_query_stay() -> None:
    assert parse_endpoint_url("http://h/mcp/?key=1").target == "/mcp/?key=1"
    assert parse_endpoint_url("http://h/mcp").target == "/mcp"
    assert parse_endpoint_url("http://h").target == "/"
