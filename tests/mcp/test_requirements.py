"""docs/reference/mcp-protocol.md#mcp-requirements: where each requirement of the tool gateway is
tested. What only a whole gateway can show, and no other test does, is tested here.

Tests that need peers that we did not write (`make tools`) are named beside those of the default
run.
"""

from __future__ import annotations

import ast
import asyncio
import json
import re
from pathlib import Path

import pytest

from modelplex.mcp.constants import Json
from tests.gateways import gateway, one
from tests.mcp.clients.scripted import call, enveloped, modern_headers, request
from tests.mcp.servers.remote import modern, remote
from tests.mcp.test_faults import WAYS, agent, calls_in, config, scripted, text, told
from tests.processes import run, served
from tests.upstreams import answer, chat_answer, provider

REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "M1": ("mcp/test_conformance.py::test_the_server_alone_passes", "mcp/test_conformance.py::test_a_server_over_stdio_passes_behind_the_gateway", "mcp/test_conformance.py::test_a_server_over_http_passes_behind_the_gateway", "mcp/test_conformance.py::test_the_suite_passes_with_one_server_without_a_prefix"),
    "M2": ("mcp/test_conformance_client.py::test_the_gateway_is_the_client_that_a_scenario_asks_for", "mcp/test_conformance_client.py::test_no_scenario_of_a_client_is_left_out"),
    "M3": ("mcp/clients/test_http.py::test_both_eras_list_the_same_tools_at_the_same_time_on_one_url", "mcp/test_gateway.py::test_both_eras_are_served_at_the_same_time_with_equal_ids", "mcp/test_real_servers.py::test_a_modern_and_a_legacy_client_use_six_servers_through_one_socket_at_the_same_time"),
    "M4": ("mcp/test_gateway.py::test_clients_of_both_eras_see_and_call_tools_of_servers_of_both", "mcp/test_real_servers.py::test_a_client_for_python_uses_six_servers_at_once", "mcp/test_real_servers.py::test_a_server_of_each_older_version_serves_both_eras"),
    "M5": ("mcp/test_gateway.py::test_clients_of_both_eras_see_and_call_tools_of_servers_of_both", "mcp/test_real_servers.py::test_a_client_for_python_uses_six_servers_at_once"),
    "M6": ("mcp/servers/test_era_probe.py::test_a_server_that_exits_at_the_probe_is_restarted_and_not_probed_again",),
    "M7": ("mcp/servers/test_session.py::test_each_legacy_revision_is_negotiated", "mcp/test_real_servers.py::test_a_server_of_each_older_version_serves_both_eras"),
    "M8": ("mcp/test_advertised.py::test_discover_starts_no_server_and_has_a_cache_time", "mcp/test_requirements.py::test_m8_m25_discovery_and_lists_start_nothing"),
    "M9": ("mcp/clients/test_http.py::test_each_check_has_its_status_and_code", "mcp/clients/test_http.py::test_the_first_failed_check_is_reported"),
    "M10": ("mcp/clients/test_http.py::test_a_name_in_base64_is_read_and_one_that_is_not_canonical_refused", "mcp/servers/test_header_params.py::test_every_text_fits_into_a_header"),
    "M11": ("mcp/clients/test_http.py::test_closing_the_answer_cancels_the_call", "mcp/test_faults.py::test_a_client_that_hangs_up_in_mid_call_cancels_it_at_the_server", "mcp/clients/test_session_http.py::test_a_resumed_stream_has_the_missed_messages_only"),
    "M12": ("mcp/clients/test_session_http.py::test_a_resumed_stream_has_the_missed_messages_only", "mcp/clients/test_session_http.py::test_a_stream_resumed_while_it_runs_moves_to_the_new_connection"),
    "M13": ("mcp/clients/test_session_http.py::test_a_request_without_its_session_is_a_400_and_with_an_unknown_one_a_404", "mcp/clients/test_sessions.py::test_the_session_of_another_caller_is_unknown"),
    "M14": ("mcp/clients/test_session_http.py::test_batches_are_served_in_one_revision_only", "mcp/clients/test_stdio.py::test_a_batch_is_answered_with_one_array_in_one_revision_only", "mcp/clients/test_http.py::test_each_check_has_its_status_and_code"),
    "M15": ("mcp/clients/test_stdio.py::test_a_stock_client_reaches_it_through_socat", "mcp/test_real_servers.py::test_a_stock_stdio_client_uses_six_servers_through_socat"),
    "M16": ("mcp/clients/test_stdio.py::test_a_line_over_the_limit_ends_the_connection_with_an_error_and_nothing_else",),
    "M17": ("mcp/clients/test_http.py::test_a_socket_takes_any_host_and_no_origin",),
    "M18": ("mcp/clients/test_http.py::test_tcp_serves_its_own_names", "mcp/clients/test_http.py::test_tcp_refuses_a_foreign_host_and_origin", "mcp/clients/test_http.py::test_beyond_loopback_a_token_is_needed"),
    "M19": ("mcp/clients/test_rest.py::test_the_plain_list_has_the_tools_of_mcp_with_their_servers", "mcp/clients/test_rest.py::test_a_plain_call_has_the_result_of_mcp", "mcp/test_requirements.py::test_m19_the_plain_form_has_the_tools_and_results_of_mcp"),
    "M20": ("mcp/servers/test_instance.py::test_fifty_first_calls_start_one_process", "mcp/test_requirements.py::test_m20_fifty_first_calls_of_many_clients_start_one_process"),
    "M21": ("mcp/servers/test_server_process.py::test_stop_ends_children_that_have_left_the_group", "mcp/servers/test_cycles.py::test_a_thousand_starts_and_stops_leave_no_process_and_no_descriptor", "mcp/test_faults.py::test_children_of_a_server_end_with_it", "mcp/test_faults.py::test_a_gateway_that_is_ended_leaves_no_process"),
    "M22": ("mcp/servers/test_instance.py::test_a_server_killed_during_calls_fails_them_at_once_and_the_next_call_works", "mcp/test_faults.py::test_a_server_killed_in_mid_call_fails_that_call_at_once_and_the_next_one_works"),
    "M23": ("mcp/servers/test_instance.py::test_a_server_that_exits_at_once_enters_a_crash_loop_and_then_fails_at_once", "mcp/test_faults.py::test_a_server_that_exits_at_once_enters_a_crash_loop"),
    "M24": ("mcp/servers/test_server_request.py::test_an_idempotent_call_is_repeated_once", "mcp/servers/test_server_request.py::test_an_expired_session_is_replaced_and_only_safe_requests_are_repeated", "mcp/test_faults.py::test_a_server_killed_in_mid_call_fails_that_call_at_once_and_the_next_one_works"),
    "M25": ("mcp/servers/test_instance.py::test_an_idle_server_is_stopped_and_restarted_by_a_call_and_not_by_listing", "mcp/test_faults.py::test_after_a_kill_lists_come_from_the_disk", "mcp/test_requirements.py::test_m8_m25_discovery_and_lists_start_nothing"),
    "M26": ("mcp/test_names.py::test_every_name_is_valid_for_all_providers", "mcp/test_names.py::test_another_server_changes_no_name", "mcp/test_gateway.py::test_names_do_not_depend_on_other_servers"),
    "M27": ("mcp/test_names.py::test_every_exposed_name_is_found_again", "mcp/test_requirements.py::test_m27_tools_with_odd_names_are_called_by_the_names_that_are_listed"),
    "M28": ("mcp/test_names.py::test_colliding_names_are_hidden_and_reported", "mcp/test_gateway.py::test_names_that_would_be_equal_are_hidden_and_reported"),
    "M29": ("mcp/test_names.py::test_names_are_in_the_order_of_the_servers_and_then_by_code_point", "mcp/test_catalog.py::test_the_order_of_a_servers_own_list_does_not_matter"),
    "M30": ("mcp/test_approvals.py::test_locked_mode_holds_new_and_changed_definitions", "mcp/test_calls.py::test_in_locked_mode_a_changed_or_new_tool_is_hidden_and_refused_with_the_reason", "mcp/test_checked_catalogs.py::test_with_trust_first_a_change_is_relayed_and_reported", "mcp/test_commands.py::test_after_lock_a_changed_or_new_tool_waits_and_is_refused_until_it_is_approved"),
    "M31": ("mcp/test_approvals.py::test_hidden_characters_are_reported_in_every_mode_and_keep_a_new_tool_pending_in_locked_mode", "mcp/test_checked_catalogs.py::test_hidden_characters_in_a_description_are_reported"),
    "M32": ("mcp/test_subscriptions.py::test_a_change_of_one_server_reaches_subscribers_of_both_eras_once", "mcp/servers/test_server_catalog.py::test_a_changed_list_is_loaded_and_then_announced_once"),
    "M33": ("mcp/servers/test_listing.py::test_a_cursor_cycle_and_endless_pages_end_with_a_warning",),
    "M34": ("mcp/servers/test_listing.py::test_an_advertised_list_that_is_missing_does_not_affect_others", "mcp/test_real_servers.py::test_a_server_of_each_older_version_serves_both_eras"),
    "M35": ("mcp/clients/test_http.py::test_two_clients_with_equal_ids_and_tokens_get_their_own_answers", "mcp/servers/test_session.py::test_equal_progress_tokens_of_two_calls_do_not_mix", "mcp/test_subscriptions.py::test_equal_subscription_ids_of_two_clients_never_mix", "mcp/test_faults.py::test_two_hundred_calls_at_once_over_five_servers_each_get_their_own_result"),
    "M36": ("mcp/test_era_translation.py::test_unknown_members_pass_in_both_directions_for_all_pairs_of_eras", "mcp/clients/test_http.py::test_unknown_members_of_a_message_reach_the_gateway_and_come_back", "mcp/test_requirements.py::test_m36_m37_unknown_members_pass_through_the_gateway"),
    "M37": ("mcp/test_era_translation.py::test_schemas_arrive_unchanged_and_as_the_same_object", "mcp/test_requirements.py::test_m36_m37_unknown_members_pass_through_the_gateway", "mcp/test_conformance_client.py::test_the_gateway_is_the_client_that_a_scenario_asks_for"),
    "M38": ("mcp/test_era_translation.py::test_a_clients_envelope_never_reaches_a_server", "mcp/test_call_route.py::test_roots_are_those_of_the_config", "mcp/servers/test_session.py::test_roots_and_client_capabilities_are_those_of_the_config", "mcp/test_real_servers.py::test_the_clients_roots_are_not_the_filesystem_servers"),
    "M39": ("mcp/test_server_questions.py::test_a_modern_server_gets_no_capability_unless_the_host_allows_it", "mcp/test_server_questions.py::test_a_modern_client_without_the_capability_gets_its_name", "mcp/test_server_questions.py::test_a_question_to_a_legacy_client_is_refused_unless_the_host_allows_it"),
    "M40": ("mcp/test_server_questions.py::test_questions_pass_to_a_modern_client_and_its_answers_come_back", "mcp/test_request_state.py::test_a_request_state_is_valid_for_its_caller_and_its_server_only"),
    "M41": ("mcp/test_era_translation.py::test_vendor_keys_pass_by_the_allow_list_in_both_directions", "mcp/test_era_translation.py::test_keys_with_the_protocols_prefix_are_reserved"),
    "M42": ("mcp/test_calls.py::test_only_listed_resources_and_templates_are_read", "mcp/test_catalog.py::test_the_web_is_read_only_where_the_very_address_is_listed"),
    "M43": ("mcp/servers/test_process_table.py::test_a_process_gets_only_allowed_and_declared_variables", "mcp/test_requirements.py::test_m43_a_server_gets_only_allowed_variables"),
    "M44": ("mcp/servers/test_events.py::test_secrets_and_control_characters_are_masked_in_logged_lines", "config/test_tools.py::test_no_form_of_the_config_shows_a_secret", "mcp/test_requirements.py::test_m44_no_secret_of_a_servers_config_is_shown", "mcp/test_requirements.py::test_m44_a_tool_that_prints_its_environment_does_not_hand_out_the_hosts_keys"),
    "M45": ("mcp/servers/test_http_endpoint.py::test_a_redirect_to_another_origin_is_not_followed", "mcp/test_requirements.py::test_m45_nothing_of_a_clients_headers_reaches_a_server_over_http"),
    "M46": ("mcp/test_requirements.py::test_m46_each_limit_has_its_tests", "mcp/clients/test_http.py::test_limits_name_the_fault", "mcp/servers/test_server_request.py::test_progress_renews_the_timeout_up_to_the_maximum"),
    "M47": ("mcp/test_search.py::test_the_right_one_of_five_hundred_is_found", "mcp/test_calls.py::test_search_mode_lists_three_tools_and_finds_the_right_one_of_500", "mcp/test_calls.py::test_search_finds_and_calls_only_permitted_tools"),
    "M48": ("mcp/test_call_recording.py::test_every_call_has_one_record_with_decision_rule_hash_and_duration", "records/test_tool_call.py::test_a_line_says_who_asked_for_what_and_what_decided", "mcp/test_requirements.py::test_m48_every_call_leaves_one_line"),
    "M49": ("benchmarks/tools.py::verdict", "mcp/test_requirements.py::test_m49_ten_unused_servers_cost_no_memory"),
    "M50": ("policy/test_tools.py::test_a_tool_that_names_a_destination_is_refused_at_its_path", "policy/test_members.py::test_anthropic_calls_no_server_of_the_agents", "mcp/test_requirements.py::test_m50_no_tool_server_of_an_agent_reaches_a_provider"),
}  # fmt: skip
"""Each with the tests that hold it: those of a part first, then those through all of it, then those
with peers.
"""

LIMITS: dict[str, str] = {
    "max_message, over HTTP": "mcp/clients/test_http.py::test_limits_name_the_fault",
    "max_message, of a line": "mcp/clients/test_stdio.py::test_a_line_over_the_limit_ends_the_connection_with_an_error_and_nothing_else",
    "max_depth": "mcp/clients/test_http.py::test_limits_name_the_fault",
    "of a tool's schema": "mcp/test_usable_catalog.py::test_schemas_that_are_too_large_or_too_deep_are_left_out",
    "max_result": "mcp/servers/test_stdio.py::test_a_result_above_the_limit_becomes_an_error_with_its_size",
    "max_in_flight": "mcp/test_running_calls.py::test_a_caller_at_its_limit_gets_a_retry_time_and_others_are_served",
    "max_server_in_flight": "mcp/servers/test_server.py::test_calls_above_the_limit_are_refused_and_not_queued",
    "timeout": "mcp/servers/test_server_request.py::test_a_call_without_a_response_times_out_and_is_cancelled_at_the_server",
    "max_call_time": "mcp/servers/test_server_request.py::test_progress_renews_the_timeout_up_to_the_maximum",
    "max_pages": "mcp/servers/test_listing.py::test_a_cursor_cycle_and_endless_pages_end_with_a_warning",
    "max_sessions": "mcp/clients/test_sessions.py::test_sessions_have_a_limit_and_an_idle_one_makes_room",
    "session_idle": "mcp/clients/test_sessions.py::test_an_idle_session_ends_unless_its_stream_is_read",
    "of what is kept of a stream": "mcp/clients/test_session_http.py::test_the_kept_messages_of_a_stream_have_a_limit",
    "max_processes": "mcp/servers/test_instance.py::test_each_scope_has_its_own_process_within_the_limit",
    "start_timeout": "mcp/test_faults.py::test_a_server_that_hangs_at_its_start_does_not_delay_others",
    "probe_timeout": "mcp/servers/test_era_probe.py::test_a_server_that_does_not_respond_to_the_probe_is_restarted_without_it",
    "idle_stop": "mcp/servers/test_instance.py::test_an_idle_server_is_stopped_and_restarted_by_a_call_and_not_by_listing",
    "log messages a second": "mcp/test_progress_sink.py::test_log_messages_have_a_rate_limit",
    "subscriptions of a caller": "mcp/test_streams.py::test_the_subscriptions_of_a_caller_are_limited",
}
"""docs/reference/mcp-protocol.md#search-mode-and-limits, the second table."""


def exists(where: str) -> bool:
    path, _, name = where.partition("::")
    root = Path(__file__).parents[2 if path.startswith("benchmarks") else 1]
    tree = ast.parse((root / path).read_text())
    return name in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_requirement_is_in_the_table_and_every_test_that_it_names_exists() -> None:
    assert list(REQUIREMENTS) == [f"M{number}" for number in range(1, 51)]
    assert not [each for where in REQUIREMENTS.values() for each in where if not exists(each)]
    assert all(REQUIREMENTS.values())


def test_m46_each_limit_has_its_tests() -> None:
    assert not [limit for limit, where in LIMITS.items() if not exists(where)]


# --- through all of it ---


@pytest.mark.parametrize("way", WAYS)
async def test_m8_m25_discovery_and_lists_start_nothing(way: str, tmp_path: Path) -> None:
    text_ = config(tmp_path, scripted(tmp_path, "s"))
    async with gateway(text_, folder=tmp_path) as running:
        first = await agent(running, tmp_path, way).tools()
    async with gateway(text_, folder=tmp_path) as running:
        client = agent(running, tmp_path, way)
        found = (await client.ask(request("server/discover")))["result"]
        assert found["supportedVersions"][0] == "2026-07-28"
        assert "tools" in found["capabilities"]
        assert found["ttlMs"] >= 0
        assert found["cacheScope"] == "private"
        assert await client.tools() == first
    assert len(told(tmp_path, "s", "start")) == 1


async def test_m19_the_plain_form_has_the_tools_and_results_of_mcp(tmp_path: Path) -> None:
    text_ = config(
        tmp_path, scripted(tmp_path, "a"), scripted(tmp_path, "b", "era=modern", protocol='"auto"')
    )
    async with gateway(text_, folder=tmp_path) as running:
        client = agent(running, tmp_path)
        plain = (await running.ask("GET", "/mcp/v1/tools")).json["tools"]
        listed = (await client.ask(request("tools/list")))["result"]["tools"]
        assert [tool["name"] for tool in plain] == [tool["name"] for tool in listed]
        assert [tool["inputSchema"] for tool in plain] == [tool["inputSchema"] for tool in listed]
        for name in ("a__echo", "b__echo"):
            arguments = {"n": 1, "text": "ä\u2028"}
            one = await running.ask("POST", f"/mcp/v1/tools/{name}/call", {"arguments": arguments})
            other = await client.call(name, arguments)
            assert one.json["content"] == other["result"]["content"]


async def test_m20_fifty_first_calls_of_many_clients_start_one_process(tmp_path: Path) -> None:
    text_ = config(tmp_path, scripted(tmp_path, "s"), max_server_in_flight="64")
    async with gateway(text_, folder=tmp_path) as running:
        clients = [agent(running, tmp_path, way) for way in WAYS]
        got = await asyncio.gather(*(clients[n % 3].call("s__echo", {"n": n}) for n in range(50)))
        assert [json.loads(text(answer))["n"] for answer in got] == list(range(50))
    assert len(told(tmp_path, "s", "start")) == 1


async def test_m27_tools_with_odd_names_are_called_by_the_names_that_are_listed(tmp_path: Path) -> None:
    own = ["a.b", "a b", "a__b", "a-b", "x" * 128, "x" * 127 + "y", "größe"]
    text_ = config(tmp_path, scripted(tmp_path, "s", f"names={','.join(own)}"))
    async with gateway(text_, folder=tmp_path) as running:
        client = agent(running, tmp_path)
        listed = [name for name in await client.tools() if "tool" not in name]
        assert len(set(listed)) == len(own)
        for name in listed:
            assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)
            await client.call(name, {"by": name})
    called = [json.loads(line.partition(" ")[2]) for line in told(tmp_path, "s", "tools/call")]
    assert [each["arguments"]["by"] for each in called] == listed
    assert sorted(each["name"] for each in called) == sorted(own)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_m36_m37_unknown_members_pass_through_the_gateway(era: str, way: str, tmp_path: Path) -> None:
    text_ = config(tmp_path, scripted(tmp_path, "s", f"era={era}", protocol='"auto"'))
    async with gateway(text_, folder=tmp_path) as running:
        client = agent(running, tmp_path, way)
        listed = (await client.ask(request("tools/list")))["result"]["tools"]
        tool = next(tool for tool in listed if tool["name"] == "s__echo")
        assert tool["inputSchema"] == {"type": "object", "$defs": {"a": {}}}
        assert tool["x-vendor"] == 1
        params: Json = {"name": "s__echo", "arguments": {"n": 1}, "future": {"a": [1, {}]}}
        result = (await client.ask(request("tools/call", params)))["result"]
        assert result["content"][0]["vendor"] == 1
        assert result["_meta"]["kept"] is True
    (call_,) = told(tmp_path, "s", "tools/call")
    assert json.loads(call_.partition(" ")[2])["future"] == {"a": [1, {}]}


async def test_m43_a_server_gets_only_allowed_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-host")
    monkeypatch.setenv("ANYTHING_ELSE", "of the host")
    given = scripted(tmp_path, "s", "names=environment", env='{ GIVEN = "to it" }')
    async with gateway(config(tmp_path, given), folder=tmp_path) as running:
        seen = json.loads(text(await agent(running, tmp_path).call("s__environment")))
    allowed = {"HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG", "MODELPLEX_TREE", "LC_CTYPE"}
    assert seen["GIVEN"] == "to it"
    assert set(seen) - allowed == {"GIVEN"}


async def test_m44_no_secret_of_a_servers_config_is_shown(tmp_path: Path) -> None:
    secret = "sk-not-to-be-told"
    talkative = scripted(tmp_path, "s", "names=stderr", f"secret={secret}", env=f'{{ KEY = "{secret}" }}')
    remote_ = f"""
    [[mcp.servers]]
    name = "r"
    url = "http://127.0.0.1:1/{secret}"
    headers = {{ authorization = "Bearer {secret}" }}
    """
    lost = f'[[mcp.servers]]\nname = "l"\ncommand = "/nowhere/x"\nargs = ["--token={secret}"]\n'
    async with gateway(config(tmp_path, talkative, remote_, lost), folder=tmp_path) as running:
        client = agent(running, tmp_path)
        said: list[str] = []
        await client.call("s__stderr", {"text": f"my key is {secret}"})
        for server in ("r", "l"):
            failed = await client.call(f"{server}__x")
            assert failed["error"]["data"]["reason"] == "start_failed"
            said.append(json.dumps(failed))
        said.append(json.dumps(await client.tools()))
        for path in (
            "/_internal/mcp",
            "/_internal/config",
            "/_internal/status",
            "/_internal/metrics",
            "/health",
        ):
            shown = await running.ask("GET", path)
            assert shown.status == 200
            said += [shown.body.decode()]
        checked = await asyncio.to_thread(run, "check", "--config", "config.toml", folder=tmp_path)
        assert checked.stdout
        said.append(checked.stdout + checked.stderr)
    log = (tmp_path / "log.json").read_text()
    assert "my key is" in log
    assert secret not in log + "".join(said)


async def test_m44_a_tool_that_prints_its_environment_does_not_hand_out_the_hosts_keys(
    tmp_path: Path,
) -> None:
    secret, path = "a-key-of-the-hosts-own", "/work/of/the/host"
    server = scripted(
        tmp_path, "s", "names=environment", env=f'{{ MY_API_KEY = "{secret}", FOLDER = "{path}" }}'
    )
    async with gateway(config(tmp_path, server), folder=tmp_path) as running:
        told = json.dumps(await agent(running, tmp_path).call("s__environment"))
    assert path in told
    assert "MY_API_KEY" in told
    assert secret not in told


async def test_m45_nothing_of_a_clients_headers_reaches_a_server_over_http(tmp_path: Path) -> None:
    async with remote(modern) as it:
        server = f"""
        [[mcp.servers]]
        name = "r"
        url = "{it.url}"
        headers = {{ authorization = "Bearer the-hosts" }}
        """
        async with gateway(config(tmp_path, server), folder=tmp_path) as running:
            sent = enveloped(call("r__echo", {"region": "x"}))
            headers = [
                *modern_headers(sent),
                ("mcp-param-region", "x"),
                ("authorization", "Bearer the-clients"),
                ("cookie", "session=the-clients"),
                ("x-api-key", "the-clients"),
                ("x-forwarded-for", "the-clients"),
                ("mcp-param-other", "the-clients"),
            ]
            got = await running.ask(
                "POST",
                "/mcp/v1",
                sent,
                headers=[(b"content-type", b"application/json")]
                + [(name.encode(), value.encode()) for name, value in headers],
            )
            assert got.json["result"]["content"][0]["text"] == "called"
        assert "the-clients" not in str(it.seen)
        assert {seen.headers["authorization"] for seen in it.seen} == {"Bearer the-hosts"}


async def test_m48_every_call_leaves_one_line(tmp_path: Path) -> None:
    text_ = config(
        tmp_path,
        scripted(tmp_path, "s", tools='["!hang"]', timeout="0.2"),
        scripted(tmp_path, "bad", "start=exit"),
    )
    async with gateway(text_, folder=tmp_path) as running:
        client = agent(running, tmp_path)
        for name in ("s__echo", "s__sleep", "s__hang", "s__nothing", "bad__x"):
            await client.call(name, {"seconds": 5})
        await running.ask("POST", "/mcp/v1/tools/s__echo/call", {"arguments": {"seconds": 5}})
    lines = calls_in(tmp_path / "log.json")
    assert [(line["tool"], line["outcome"], line.get("reason")) for line in lines] == [
        ("s__echo", "ok", None),
        ("s__sleep", "error", "timeout"),
        ("s__hang", "refused", "unknown"),
        ("s__nothing", "refused", "unknown"),
        ("bad__x", "error", "start_failed"),
        ("s__echo", "ok", None),
    ]
    assert len({line["request_id"] for line in lines}) == len(lines)
    assert len({line["arguments_sha256"] for line in lines}) == 1
    assert all(line["ms"]["total"] >= 0 for line in lines)
    assert {line["decision"] for line in lines} <= {"allow", "deny"}


async def test_m49_ten_unused_servers_cost_no_memory(tmp_path: Path) -> None:
    taken: list[int] = []
    for count in (0, 10):
        parts = [scripted(tmp_path, f"s{n}") for n in range(count)]
        async with served(config(tmp_path, *parts), folder=tmp_path) as running:
            assert len((await running.ask("GET", "/_internal/mcp")).json["servers"]) == count
            taken.append(running.resident())
    without, with_ten = taken
    assert with_ten - without < 5_000_000
    assert with_ten < 60_000_000


async def test_m50_no_tool_server_of_an_agent_reaches_a_provider(tmp_path: Path) -> None:
    elsewhere = {"type": "mcp", "server_label": "x", "server_url": "https://mcp.example.com"}
    named = [{"type": "url", "name": "x", "url": "https://mcp.example.com"}]
    async with provider(answer(chat_answer())) as up, gateway(one(up.url), folder=tmp_path) as running:
        responses = {"model": "m", "input": "Hi", "tools": [elsewhere]}
        messages = {
            "model": "m",
            "max_tokens": 9,
            "messages": [{"role": "user", "content": "Hi"}],
            "mcp_servers": named,
        }
        for path, body, where in (
            ("/v1/responses", responses, "tools[0]"),
            ("/v1/messages", messages, "mcp_servers"),
        ):
            refused = await running.ask("POST", path, body, unix=True)
            assert refused.status == 400
            assert where in refused.error["message"]
        assert not up.seen
