"""A config becomes the values that the parts of the server take."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from modelplex.config import DEFAULT_HOST, Config, parse, provider_types
from modelplex.http_client import HttpClient
from modelplex.pipeline.demo_upstream import DemoUpstream
from modelplex.pipeline.upstream import HttpUpstream
from modelplex.server import from_config
from modelplex.server.address import Tcp, Unix, Vsock
from modelplex.server.connection_limits import ConnectionLimits
from modelplex.server.from_config import (
    allowed_hosts_of,
    build_upstreams,
    configured_addresses,
    connection_limits,
    dialects_of,
    error_rules,
    machine_id,
    restart_settings,
    secrets_of,
    start_log_fields,
    unchanged_providers,
)

DEMO = '[[providers]]\ntype = "demo"\n'


def read(text: str) -> Config:
    text = text if "[[providers]]" in text else text + DEMO
    return parse(text.encode(), file="c.toml", environ={}, types=provider_types())


def test_addresses_are_those_of_the_server_and_of_the_agents_sockets() -> None:
    config = read(
        '[server]\nhttp = [":1234"]\nsocket = ["/a.sock"]\nvsock = 7\nsocket_mode = "0640"\nsocket_group = "staff"\n'
        '[[agents]]\nname = "one"\nsocket = "/one.sock"\n'
        '[[agents]]\nname = "two"\nsocket = "/two.sock"\nsocket_mode = "0600"\nsocket_group = "two"\n'
        '[[agents]]\nname = "three"\ntoken = "a-long-enough-token"\n'
    )
    assert configured_addresses(config) == [
        Tcp("127.0.0.1", 1234),
        Unix("/a.sock", mode=0o640, group="staff"),
        Unix("/one.sock", mode=0o640, group="staff", agent="one"),
        Unix("/two.sock", mode=0o600, group="two", agent="two"),
        Vsock(7),
    ]


def test_the_dialects_are_those_of_the_providers() -> None:
    keyed = "".join(
        f'[[providers]]\nname = "{name}"\ntype = "{name}"\napi_key = "k"\n' for name in ("anthropic", "groq")
    )
    assert dialects_of(read(keyed)) == {"anthropic_messages", "openai_chat"}


async def test_upstreams_are_ordered_by_priority_and_then_as_in_the_file() -> None:
    rows = (("c", 2), ("a", 1), ("b", 2))
    text = "".join(
        f'[[providers]]\nname = "{name}"\ntype = "openai"\napi_key = "k"\npriority = {priority}\n'
        for name, priority in rows
    )
    client = HttpClient()
    built = build_upstreams(read(text + '[[providers]]\ntype = "demo"\npriority = 9\n'), client)
    await client.aclose()
    assert list(built) == ["a", "c", "b", "demo"]
    assert isinstance(built["a"], HttpUpstream)
    assert isinstance(built["demo"], DemoUpstream)


def test_failover_settings_become_rules() -> None:
    rules = error_rules(
        read(
            '[server]\non_loss = "refuse"\non_pinned_state = "drop"\nping_interval = 7\n'
            "[failover]\nmax_attempts = 4\nretries = 3\nbackoff = 0.5\nmax_backoff = 6\nmax_retry_after = 8\n"
            "breaker_failures = 9\nbreaker_window = 11\nbreaker_cooldown = 12\n"
        )
    )
    failover, breaker = rules.failover, rules.breaker
    assert (failover.max_attempts, failover.retries) == (4, 3)
    assert (failover.backoff, failover.max_backoff, failover.max_retry_after) == (0.5, 6, 8)
    assert (breaker.failures, breaker.window, breaker.cooldown) == (9, 11, 12)
    assert (rules.refuse_losses, rules.drop_pinned_state, rules.ping_interval) == (True, True, 7)


def test_every_configured_limit_of_a_connection_is_taken() -> None:
    fields = (
        "max_header_size header_timeout body_timeout min_body_rate keep_alive max_connections "
        "max_connections_per_listener max_connections_per_caller reserved_connections drain_timeout"
    ).split()
    values = {field: 40_000 - number for number, field in enumerate(fields)}
    text = "[server]\n" + "".join(f"{field} = {value}\n" for field, value in values.items())
    assert connection_limits(read(text)) == ConnectionLimits(**values)
    assert connection_limits(read("")) == ConnectionLimits()


@pytest.mark.parametrize(
    ("http", "published", "served"),
    [("0.0.0.0:1", "0.0.0.0", True), ("0.0.0.0:1", "", False), ("127.0.0.1:1", "0.0.0.0", False)],
)
def test_names_of_one_label_are_served_where_a_container_publishes_the_port(
    http: str, published: str, served: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEFAULT_HOST, published)
    hosts = allowed_hosts_of(read(f'[server]\nhttp = "{http}"\nallow_unauthenticated = true\n'))
    assert hosts._single_labels is served


def test_configured_hosts_and_origins_are_served() -> None:
    hosts = allowed_hosts_of(
        read(
            '[server]\nhttp = "127.0.0.1:1"\nallowed_hosts = ["my.example"]\nallowed_origins = ["https://o.example"]\n'
        )
    )
    hosts.check("my.example", "https://o.example")
    hosts.check("127.0.0.1:1", None)


def test_every_secret_of_a_config_is_named() -> None:
    config = read(
        '[server]\ninternal_token = "secret-token"\n'
        '[[providers]]\ntype = "openai"\napi_key = ["secret-1", "secret-2"]\nheaders = { x-team = "secret-header" }\n'
        '[[agents]]\nname = "a"\ntoken = "secret-agent-token"\n'
        '[mcp]\nenabled = true\n[[mcp.servers]]\nname = "one"\ncommand = "cat"\nenv = { KEY = "secret-env" }\n'
    )
    assert set(secrets_of(config)) >= {
        "secret-token",
        "secret-1",
        "secret-2",
        "secret-header",
        "secret-agent-token",
        "secret-env",
    }


@pytest.mark.parametrize(
    ("other", "restart"),
    [
        ("[server]\nmax_connections = 9\n", True),
        ('[server]\nsocket_mode = "0600"\n', False),
        ('[server]\nsocket = "/s.sock"\nsocket_mode = "0600"\n', True),
        ('[[agents]]\nname = "a"\nsocket = "/a.sock"\n', False),
        ('[log]\nformat = "json"\n', True),
        ('[mcp]\nenabled = true\nstdio_socket = "/m.sock"\n', True),
        ('[mcp]\nenabled = false\nstdio_socket = "/m.sock"\n', False),
        ('[[agents]]\nname = "a"\ntoken = "a-long-enough-token"\n', False),
        ("[server]\nmax_request_size = 9000\n", False),
    ],
)
def test_some_settings_need_a_restart(other: str, restart: bool) -> None:
    assert (restart_settings(read(other)) != restart_settings(read(""))) is restart


def test_the_log_line_of_the_start_names_policies_open_rules_and_agents() -> None:
    config = read('[[agents]]\nname = "a"\ntoken = "a-long-enough-token"\nallow = ["web-search"]\n')
    assert "agents" not in start_log_fields(read(""), addresses=[], path=None)
    fields = start_log_fields(config, addresses=["http://127.0.0.1:1"], path="config.toml")
    assert (fields["listeners"], fields["config"]) == (["http://127.0.0.1:1"], "config.toml")
    assert fields["open_rules"] == ["web-search: agent a"]
    assert len(cast("list[str]", fields["agents"])) == 1


def test_providers_with_the_same_settings_are_unchanged() -> None:
    row = '[[providers]]\nname = "{0}"\ntype = "openai"\napi_key = "{1}"\n'
    old = read(row.format("same", "k") + row.format("changed", "k") + row.format("gone", "k"))
    new = read(row.format("same", "k") + row.format("changed", "other") + row.format("added", "k"))
    assert unchanged_providers(old, new) == {"same"}


def test_the_id_of_the_machine_or_its_host_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_config, "MACHINE_ID", tmp_path / "machine-id")
    assert machine_id()
    (tmp_path / "machine-id").write_bytes(b"0123456789abcdef\n")
    assert machine_id() == b"0123456789abcdef"
