"""A config whose answers come from a recording."""

from __future__ import annotations

import msgspec

from modelplex.config import provider_types
from modelplex.config.mcp_settings import McpConfig, McpServer
from modelplex.config.recordings import ReplayPlan, missing_variables, with_recording
from modelplex.config.settings import Config, ProviderConfig

CONFIG = Config(
    providers=(ProviderConfig(name="up", type="openai", models=("m",)),), aliases={"*": ("up/m",)}
)


def names(config: Config) -> list[str]:
    return [each.name for each in config.providers]


def test_nothing_but_the_recording_answers() -> None:
    found = with_recording(CONFIG, ReplayPlan(file="r.jsonl", timing=True, folder="/srv"))
    (only,) = found.providers
    assert (only.type, only.file, only.run, only.timing, only.folder) == (
        "replay",
        "r.jsonl",
        None,
        True,
        "/srv",
    )
    assert found.aliases == {}


def test_no_tool_server_is_started_but_for_live_tools() -> None:
    server = McpServer(name="one", command="true")
    config = msgspec.structs.replace(CONFIG, mcp=McpConfig(servers=(server,)))
    recorded = with_recording(config, ReplayPlan(run="run-1")).mcp
    assert (recorded.enabled, recorded.servers) == (True, ())
    missed = with_recording(config, ReplayPlan(run="run-1", on_miss="live")).mcp
    assert (missed.enabled, missed.servers) == (True, (server,))
    assert with_recording(config, ReplayPlan(run="run-1", live_tools=True)).mcp == config.mcp


def test_other_providers_stay_for_what_was_not_recorded() -> None:
    found = with_recording(CONFIG, ReplayPlan(run="run-1", on_miss="live"))
    assert names(found) == ["replay", "up"]
    assert found.aliases == CONFIG.aliases


def test_the_demo_is_added_where_it_answers() -> None:
    found = with_recording(CONFIG, ReplayPlan(run="run-1", on_miss="demo"))
    assert names(found) == ["replay", "demo"]


def test_a_provider_of_the_same_name_stays() -> None:
    config = Config(providers=(ProviderConfig(name="replay", type="openai"),))
    assert names(with_recording(config, ReplayPlan(run="run-1", on_miss="live"))) == ["replay-1", "replay"]


def test_variables_of_keys_need_not_be_set() -> None:
    text = 'api_key = "${MY_KEY}"\nother = "$${NOT_THIS} ${SET}"'
    found = missing_variables(text, {"SET": "1", "OPENAI_API_KEY": "k"}, provider_types().values())
    assert found["MY_KEY"] == found["ANTHROPIC_API_KEY"] == "unused"
    assert not {"SET", "NOT_THIS", "OPENAI_API_KEY"} & found.keys()
