"""Addresses: normalized, or rejected with a sentence."""

import pytest

from modelplex.config import (
    ConfigError,
    config_without_file,
    http_address,
)
from modelplex.config.address import provider_url, same_origin
from tests.config.configs import read


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("127.0.0.1:11435", "127.0.0.1:11435"),
        (":8080", "127.0.0.1:8080"),
        ("0.0.0.0:80", "0.0.0.0:80"),
        ("[::1]:08080", "[::1]:8080"),
        ("localhost:0", "localhost:0"),
    ],
)
def test_an_address_gets_a_host_and_a_port(written: str, address: str) -> None:
    assert http_address(written) == address


@pytest.mark.parametrize(
    ("host", "read_as"),
    [("0.0.0.0", "0.0.0.0"), (" ", "127.0.0.1"), ("::", "[::]"), ("[::]", "[::]"), ("box", "box")],
)
def test_the_environment_has_the_default_host(host: str, read_as: str) -> None:
    environ = {"MODELPLEX_DEFAULT_HOST": host}
    written = '[server]\nhttp = [":8080", "127.0.0.1:81"]'
    assert read(written, **environ).server.http == (f"{read_as}:8080", "127.0.0.1:81")
    assert read("", **environ).server.http == (f"{read_as}:11435",)
    assert read('[server]\nlog_level = "debug"', **environ).server.http == (f"{read_as}:11435",)
    assert read('[server]\nsocket = "a.sock"', **environ).server.http == ()
    assert config_without_file(environ, found_ollama=False, types={}).server.http == (f"{read_as}:11435",)


def test_an_invalid_default_host_is_a_fault_of_the_environment() -> None:
    environ = {"MODELPLEX_DEFAULT_HOST": "http://x"}
    with pytest.raises(ConfigError, match=r"MODELPLEX_DEFAULT_HOST.*write an address such as"):
        config_without_file(environ, found_ollama=False, types={})
    with pytest.raises(ConfigError, match=r"MODELPLEX_DEFAULT_HOST.*write an address such as"):
        read('[server]\nhttp = ":80"', **environ)


@pytest.mark.parametrize(
    "written", ["", "8080", "host", "::1:80", "http://x:1", "a b:1", "h:65536", "h:-1", "h:٣"]
)
def test_an_invalid_address_is_rejected(written: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        http_address(written)


def test_a_base_url_has_no_slash_at_its_end() -> None:
    assert provider_url(" https://h/v1// ") == "https://h/v1"
    assert provider_url("unix:/run/x.sock:/v1") == "unix:/run/x.sock:/v1"


@pytest.mark.parametrize("path", ["chat/completions", "messages", "models", "api/chat", "responses"])
def test_a_base_url_ends_before_the_endpoint(path: str) -> None:
    with pytest.raises(ValueError, match=rf"ends before /{path}"):
        provider_url(f"https://h/v1/{path}/")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://h/v1", "https://h/v2", True),
        ("https://h", "https://h:443", True),
        ("https://h", "http://h", False),
        ("https://h", "https://i", False),
        ("https://h:444", "https://h", False),
        ("unix:/a", "unix:/a:/v1", True),
        ("unix:/a", "unix:/b", False),
    ],
)
def test_the_origin_of_a_base_url(one: str, other: str, *, same: bool) -> None:
    assert same_origin(one, other) is same
