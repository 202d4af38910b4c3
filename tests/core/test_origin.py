"""Base URLs."""

import pytest

from modelplex.core.origin import Origin, parse_origin


@pytest.mark.parametrize(
    ("url", "origin", "prefix", "host_header"),
    [
        ("https://api.x.com/v1", Origin(host="api.x.com", port=443, tls=True), "/v1", "api.x.com"),
        ("https://API.x.com", Origin(host="api.x.com", port=443, tls=True), "", "api.x.com"),
        ("HTTP://x:8080/a/b/", Origin(host="x", port=8080, tls=False), "/a/b", "x:8080"),
        ("http://[::1]:80/", Origin(host="::1", port=80, tls=False), "", "[::1]"),
        ("https://x:80", Origin(host="x", port=80, tls=True), "", "x:80"),
        ("unix:/a.sock", Origin(host="localhost", port=80, tls=False, unix="/a.sock"), "", "localhost"),
        ("unix:///a.sock", Origin(host="localhost", port=80, tls=False, unix="/a.sock"), "", "localhost"),
        (
            "unix:/a:b.sock:/v1/",
            Origin(host="localhost", port=80, tls=False, unix="/a:b.sock"),
            "/v1",
            "localhost",
        ),
    ],
)
def test_a_base_url_is_split_into_origin_and_prefix(
    url: str, origin: Origin, prefix: str, host_header: str
) -> None:
    assert parse_origin(url) == (origin, prefix)
    assert origin.authority == host_header


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.x.com",
        "ftp://x",
        "https:x",
        "https://",
        "https://secret:word@x",
        "https://secret@x/",
        "https://x/?secret=1",
        "https://x/#secret",
        "https://x:secret/",
        "https://x:99999/",
        "https://x:0/",
        "https://x y/",
        "https://x\r\n/",
        "https://exämple/",
        "https://-x/",
        "https://[::1/",
        "unix:secret.sock",
        "unix:",
        "unix:/",
    ],
)
def test_an_invalid_base_url_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"^[A-Z].*\.$") as caught:
        parse_origin(url)
    assert "secret" not in str(caught.value)
