"""The table [otel]: where spans go, and what becomes of the telemetry of agents.

What it does not say is in the variables of OpenTelemetry, as its SDKs read them:
https://opentelemetry.io/docs/specs/otel/protocol/exporter/ (read on 2026-12-01). Without the table
they are not read: a variable that is set for other programs sends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

from modelplex.config.address import provider_url
from modelplex.config.rules import (
    build,
    header_name,
    list_of,
    mapping,
    one_of,
    parsed,
    read_fields,
    rules_of,
    secret,
)
from modelplex.config.secret import Secret
from modelplex.config.settings import OtelConfig
from modelplex.config.toml_node import Faulty, TomlNode

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
HEADERS: Final = "OTEL_EXPORTER_OTLP_HEADERS"
RESERVED_HEADERS: Final = frozenset(
    {"host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection"}
)
_ADDRESS: Final = "the address of a collector of OTLP over HTTP, such as http://127.0.0.1:4318"
SIGNALS: Final = ("/v1/traces", "/v1/metrics", "/v1/logs")


def endpoint(written: str) -> str:
    """Without trailing slashes. Raises ValueError with a sentence."""
    url = provider_url(written)
    if not url.startswith(("http://", "https://")):
        raise ValueError("It begins with http:// or https://.")
    if url.endswith(SIGNALS):
        raise ValueError("It ends before /v1, which is appended for each signal.")
    if urlsplit(url).port == 4317:
        raise ValueError("Port 4317 is that of gRPC; OTLP over HTTP is usually at 4318.")
    return url


OTEL: Final = rules_of(
    OtelConfig,
    endpoint=parsed(endpoint, _ADDRESS, is_secret=True),
    headers=mapping(secret("the header's value"), key=header_name(reserved=RESERVED_HEADERS)),
    agents=list_of(
        one_of(("keep", "relay")), '"keep" or "relay", or a list of both', single=str, unique=True
    ),
)


def read_otel(node: TomlNode) -> OtelConfig | Faulty:
    values, members = read_fields(node, OTEL)
    environ = node.document.environ
    if "endpoint" not in members and (found := environ.get(ENDPOINT, "").strip()):
        try:
            values["endpoint"] = endpoint(found)
        except ValueError as error:
            sentence = str(error).rstrip(".")
            node.child("endpoint").reject(
                _ADDRESS, found=f"another form in {ENDPOINT}", hint=sentence[:1].lower() + sentence[1:]
            )
            return build(OtelConfig, values)
    if "headers" not in members and environ.get(HEADERS, "").strip():
        headers = headers_of(environ)
        if headers is None:
            node.child("headers").reject(f"NAME=VALUE,NAME=VALUE in {HEADERS}", found="another form")
        else:
            values["headers"] = headers
    config = build(OtelConfig, values)
    if "endpoint" in members or config.endpoint:
        return config
    if "relay" in config.agents:
        members["agents"].reject("an endpoint beside it", found="none", hint=f"or set {ENDPOINT}")
    elif not config.agents and "agents" not in members:
        node.child("endpoint").reject(_ADDRESS, found="none", hint=f"or set {ENDPOINT}")
    return config


def headers_of(environ: Mapping[str, str]) -> dict[str, Secret] | None:
    """What the variable says; None where it has another form."""
    found: dict[str, Secret] = {}
    for pair in environ[HEADERS].split(","):
        name, separator, value = pair.partition("=")
        name, value = unquote(name.strip()).lower(), unquote(value.strip())
        if not pair.strip():
            continue
        if not separator or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            return None
        if name in RESERVED_HEADERS or not (value.isascii() and value.isprintable()):
            return None
        found[name] = Secret(value)
    return found
