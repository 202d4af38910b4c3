"""Settings, their rules, and modelplex.example.toml agree."""

import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from modelplex.config import (
    AdminConfig,
    AgentConfig,
    AllowConfig,
    BudgetConfig,
    CacheConfig,
    Config,
    FailoverConfig,
    LogConfig,
    McpConfig,
    McpServer,
    PackagesConfig,
    PolicyConfig,
    PriceConfig,
    ProviderConfig,
    RateConfig,
    RecordConfig,
    ServerConfig,
    SharedConfig,
    agents,
    parse,
    prices,
    provider_types,
    tools,
)
from modelplex.config.admins import ADMIN
from modelplex.config.otel import OTEL
from modelplex.config.providers import PROVIDER, QUIRKS
from modelplex.config.read import CACHE, FAILOVER, LOG, PACKAGES, RECORD
from modelplex.config.server import SERVER
from modelplex.config.settings import OtelConfig, TeamConfig
from modelplex.config.shared import SHARED
from modelplex.core.request import Quirks
from tests.config.configs import KEY, TYPES

SECTIONS: list[tuple[type[msgspec.Struct], Mapping[str, object]]] = [
    (ServerConfig, SERVER),
    (AdminConfig, ADMIN),
    (ProviderConfig, PROVIDER),
    (FailoverConfig, FAILOVER),
    (LogConfig, LOG),
    (RecordConfig, RECORD),
    (CacheConfig, CACHE),
    (OtelConfig, OTEL),
    (SharedConfig, SHARED),
    (PackagesConfig, PACKAGES),
    (McpConfig, tools.MCP),
    (McpServer, tools.SERVER),
    (Quirks, QUIRKS),
    (PolicyConfig, agents.POLICY),
    (AllowConfig, agents.ALLOW),
    (AgentConfig, agents.AGENT),
    (TeamConfig, agents.TEAM),
    (RateConfig, agents.RATE),
    (BudgetConfig, agents.BUDGET),
    (PriceConfig, prices.PRICE),
]


@pytest.mark.parametrize(("kind", "rules"), SECTIONS, ids=lambda one: getattr(one, "__name__", ""))
def test_every_setting_has_a_rule_and_every_rule_a_setting(
    kind: type[msgspec.Struct], rules: Mapping[str, object]
) -> None:
    assert set(rules) == set(kind.__struct_fields__)


EXAMPLE = Path(__file__).resolve().parents[2] / "modelplex.example.toml"


def _example(*, whole: bool) -> Config:
    """The example; with `whole` the settings that stand in comments too."""
    text = EXAMPLE.read_text()
    if whole:
        # `auth` takes the place of `api_key`, and `file` of a recording that of `run`.
        text = re.sub(r"^# (?!auth|run)(?=[a-z_]+ = |\[)", "", text, flags=re.MULTILINE)
    environ = {
        "OPENAI_API_KEY": KEY,
        "MODELPLEX_INTERNAL_TOKEN": KEY,
        "SEARCH_TOKEN": KEY,
        "CODER_TOKEN": f"{KEY}-of-coder",
        "COLLECTOR_TOKEN": KEY,
        "LIMITS_PASSWORD": KEY,
    }
    return parse(text.encode(), file="config.toml", environ=environ, types=provider_types())


def test_the_example_is_valid() -> None:
    assert [provider.name for provider in _example(whole=False).providers] == ["openai", "demo"]


def test_the_example_shows_every_key() -> None:
    text = re.sub(r"^# (?=[a-z_]+ = |\[)", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    tree = tomllib.loads(text)
    assert set(tree) == set(Config.__struct_fields__) - {"path", "digest"}
    shown: dict[type[msgspec.Struct], dict[str, object]] = {
        ServerConfig: tree["server"],
        AdminConfig: {"uid": [], **tree["server"]["admins"][0]},
        ProviderConfig: {**tree["providers"][0], **tree["providers"][2]},
        Quirks: tree["providers"][0]["quirks"],
        PolicyConfig: tree["policy"],
        AllowConfig: tree["policy"]["allow"],
        AgentConfig: tree["agents"][0],
        TeamConfig: tree["teams"][0],
        RateConfig: tree["agents"][0]["rate"],
        BudgetConfig: tree["agents"][0]["budget"],
        PriceConfig: tree["prices"][0],
        FailoverConfig: tree["failover"],
        LogConfig: tree["log"],
        RecordConfig: tree["record"],
        CacheConfig: tree["cache"],
        OtelConfig: tree["otel"],
        SharedConfig: tree["shared"],
        PackagesConfig: tree["packages"],
        McpConfig: tree["mcp"],
        McpServer: {**tree["mcp"]["servers"][0], **tree["mcp"]["servers"][1]},
    }
    assert set(shown) == {kind for kind, _ in SECTIONS}
    for kind, table in shown.items():
        assert set(table) == set(kind.__struct_fields__), kind.__name__
    assert _example(whole=True).server.socket == ("./modelplex.socket",)


def test_the_example_shows_the_defaults() -> None:
    example = _example(whole=False)
    assert example.server == ServerConfig()
    assert example.failover == FailoverConfig()
    assert example.log == LogConfig()
    assert example.record == RecordConfig()
    assert example.cache == CacheConfig()
    assert example.otel == OtelConfig()
    assert example.packages == PackagesConfig()
    assert example.policy == PolicyConfig()
    assert example.agents == ()
    assert not example.mcp.enabled
    openai = example.providers[0]
    plain = ProviderConfig(name="openai", type="openai", base_url=openai.base_url)
    assert msgspec.structs.replace(openai, api_key=(), models=(), quirks={}) == plain
    assert openai.base_url == TYPES["openai"].default_base_url
    assert openai.quirks == msgspec.structs.asdict(Quirks())


def test_every_key_of_the_example_is_explained() -> None:
    """A comment stands above each key, or above the run of keys or the table that it belongs to."""
    explained = False
    for line in EXAMPLE.read_text().splitlines():
        if re.match(r"(# )?[a-z_]+ = ", line):
            assert explained, line
        elif not line.startswith("["):
            explained = line.startswith("#")


def test_sizes_and_times_are_finite_by_default() -> None:
    for kind in (ServerConfig, FailoverConfig, LogConfig, RecordConfig, CacheConfig):
        values = msgspec.structs.asdict(kind()).values()
        assert all(math.isfinite(value) for value in values if isinstance(value, (int, float)))
