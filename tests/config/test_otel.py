"""The table [otel]."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from modelplex.config.otel import ENDPOINT, HEADERS
from modelplex.config.problems import ConfigError
from modelplex.config.read import parse
from modelplex.config.settings import OtelConfig
from modelplex.providers.types import TYPES

ADDRESS = "the address of a collector of OTLP over HTTP, such as http://127.0.0.1:4318"


def read(text: str, environ: Mapping[str, str] | None = None) -> OtelConfig:
    whole = f'[[providers]]\ntype = "demo"\n{text}'
    return parse(whole.encode(), file="c.toml", environ=environ or {}, types=TYPES).otel


def faults(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, environ)
    return [str(each) for each in caught.value.faults]


def test_it_says_where_spans_go() -> None:
    found = read(
        '[otel]\nendpoint = "https://c:4318/base/"\nheaders = { Authorization = "Bearer ${T}" }', {"T": "x"}
    )
    assert found.endpoint == "https://c:4318/base"
    assert {name: value.reveal() for name, value in found.headers.items()} == {"authorization": "Bearer x"}
    assert found.agents == ()


def test_what_it_does_not_say_is_in_the_variables() -> None:
    environ = {ENDPOINT: "http://c:4318/", HEADERS: "Authorization=Bearer%20a,x-team=b%2Cc,"}
    found = read("[otel]", environ)
    assert found.endpoint == "http://c:4318"
    headers = {name: value.reveal() for name, value in found.headers.items()}
    assert headers == {"authorization": "Bearer a", "x-team": "b,c"}
    own = read('[otel]\nendpoint = "http://own:1"\nheaders = { a = "1" }', environ)
    assert (own.endpoint, list(own.headers)) == ("http://own:1", ["a"])


def test_without_the_table_the_variables_are_not_read() -> None:
    assert read("", {ENDPOINT: "http://c:4318"}) == OtelConfig()


def test_telemetry_of_agents_is_kept_without_a_collector() -> None:
    assert read('[otel]\nagents = "keep"') == OtelConfig(agents=("keep",))
    both = read('[otel]\nendpoint = "http://c:4318"\nagents = ["keep", "relay"]')
    assert both.agents == ("keep", "relay")


@pytest.mark.parametrize(
    ("text", "environ", "told"),
    [
        ("[otel]", {}, f"expected {ADDRESS}, found none; or set {ENDPOINT}"),
        (
            '[otel]\nagents = "relay"',
            {},
            f"otel.agents: expected an endpoint beside it, found none; or set {ENDPOINT}",
        ),
        ('[otel]\nagents = "send"', {}, 'expected "keep" or "relay", found "send"'),
        ('[otel]\nendpoint = "c:4318"', {}, f"expected {ADDRESS}, found a string"),
        ('[otel]\nendpoint = "unix:/c"', {}, "it begins with http:// or https://"),
        ('[otel]\nendpoint = "http://c:4317"', {}, "port 4317 is that of gRPC"),
        ('[otel]\nendpoint = "http://c:4318/v1/traces"', {}, "it ends before /v1"),
        ('[otel]\nendpoint = "http://c:4318"\nheader = 1', {}, 'did you mean "headers"?'),
        ('[otel]\nendpoint = "http://c:4318"\nheaders = { host = "x" }', {}, "headers"),
        ("[otel]", {ENDPOINT: "collector"}, f"found another form in {ENDPOINT}"),
        ("[otel]", {ENDPOINT: "http://c:4318", HEADERS: "canary"}, f"NAME=VALUE,NAME=VALUE in {HEADERS}"),
        ("[otel]", {ENDPOINT: "http://c:4318", HEADERS: "a=canary\u00e9"}, "found another form"),
    ],
)
def test_what_is_wrong_is_told_without_secrets(text: str, environ: Mapping[str, str], told: str) -> None:
    found = faults(text, environ)
    assert any(told in each for each in found), found
    assert "canary" not in str(found)
