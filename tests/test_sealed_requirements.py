"""docs/reference/isolation-requirements.md#sealed-policy-requirements, S1 to S50: the tests of each
requirement of the sealed policy, and its limits.

tests/policy tests the policy alone, tests/test_sealed_*.py a whole gateway on real sockets.
`LIMITS` says where a requirement is not met literally.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

AGENTS = "tests/policy/test_agents.py"
CONTENT = "tests/policy/test_content.py"
MEMBERS = "tests/policy/test_members.py"
NAMES = "tests/policy/test_model_names.py"
BETAS = "tests/dialects/anthropic/test_betas.py"
TOOLS = "tests/policy/test_tools.py"
WHOLE = "tests/policy/test_strict_json.py"
SPLICE = "tests/policy/test_splice.py"
PATHS = "tests/test_sealed_paths.py"
BODIES = "tests/test_sealed_bodies.py"
RULES = "tests/test_sealed_rules.py"
ABUSE = "tests/test_abuse.py"
FUZZ = "tests/test_policy_fuzz.py"
CALLERS = "tests/config/test_agents.py"

TESTS: dict[str, tuple[str, ...]] = {
    "S1": (f"{PATHS}::test_s1_a_path_that_is_not_served_is_a_404_in_its_dialect", f"{PATHS}::test_s1_a_path_of_two_forms_is_a_404_in_that_of_the_client"),
    "S2": (f"{PATHS}::test_s2_a_path_that_could_be_read_in_two_ways_is_a_400", f"{PATHS}::test_s2_the_page_of_a_model_takes_encoded_slashes_and_is_answered_here"),
    "S3": (f"{PATHS}::test_s3_a_model_or_a_verb_that_is_none_is_a_400", f"{PATHS}::test_s3_what_goes_into_a_providers_path_is_one_segment", f"{PATHS}::test_s3_a_name_that_the_config_spells_out_goes_as_it_is"),
    "S4": (f"{PATHS}::test_s4_no_byte_of_the_query_goes_on", f"{PATHS}::test_s4_nor_of_a_smaller_forms"),
    "S5": (f"{PATHS}::test_s5_s6_what_parsers_would_read_differently_is_a_400", f"{WHOLE}::test_a_key_that_stands_twice_is_refused_at_its_path", f"{WHOLE}::test_exactly_the_bodies_with_a_repeated_key_are_found"),
    "S6": (f"{PATHS}::test_s5_s6_what_parsers_would_read_differently_is_a_400", f"{PATHS}::test_s6_a_body_above_the_limit_is_a_413_that_names_it", f"{WHOLE}::test_a_body_may_be_as_deep_as_the_named_limit_and_no_deeper"),
    "S7": (f"{PATHS}::test_s7_a_body_that_is_packed_is_a_415",),
    "S8": (f"{ABUSE}::test_an_ambiguous_request_is_refused_and_nothing_after_it_is_served",),
    "S9": (f"{PATHS}::test_s9_a_websocket_is_refused_at_once", f"{AGENTS}::test_codex_is_judged_alike_over_a_websocket"),
    "S10": (f"{PATHS}::test_s10_a_knock_at_a_base_is_answered_here", f"{PATHS}::test_s10_the_inside_is_not_on_the_socket", f"{ABUSE}::test_no_spelling_of_a_path_reaches_the_admin_api_from_the_socket"),
    "S11": (f"{PATHS}::test_s11_s12_s14_nothing_of_the_clients_headers_goes_on",),
    "S12": (f"{PATHS}::test_s11_s12_s14_nothing_of_the_clients_headers_goes_on",),
    "S13": (f"{PATHS}::test_s13_betas_that_reach_out_are_dropped_and_told", f"{PATHS}::test_s13_a_version_that_is_none_does_not_go_on", f"{BETAS}::test_betas_keep_their_order_and_say_which_are_gone"),
    "S14": (f"{PATHS}::test_s11_s12_s14_nothing_of_the_clients_headers_goes_on",),
    "S15": (f"{PATHS}::test_s15_a_redirect_is_a_502_and_nobody_follows_it",),
    "S16": (f"{PATHS}::test_s16_of_the_providers_headers_only_its_limits_come_back", f"{PATHS}::test_s16_of_a_streams_headers_too"),
    "S17": (f"{PATHS}::test_s17_no_key_and_any_key_are_served", f"{PATHS}::test_s17_every_official_client_is_served_with_the_key_that_it_must_have", "tests/test_curl.py::test_a_chat", "tests/agents/test_agents.py::test_an_agent_does_its_task_with_a_model_of_another_dialect"),
    "S18": (f"{RULES}::test_s18_a_model_outside_the_agents_list_is_a_404_wherever_the_form_names_it", f"{MEMBERS}::test_a_model_named_within_a_body_is_stripped_and_where_it_may_stand_must_be_the_callers"),
    "S19": (f"{RULES}::test_s19_a_name_that_reaches_out_is_refused_though_a_glob_matches_and_served_where_it_is_spelled_out", f"{NAMES}::test_a_name_that_reaches_out_by_itself_is_refused"),
    "S20": (f"{RULES}::test_s20_who_searches_or_stores_by_default_is_told_not_to_on_every_sealed_request", f"{RULES}::test_s20_where_the_rule_is_open_the_clients_word_holds"),
    "S21": (f"{RULES}::test_s21_an_alias_never_shows_upstream", f"{RULES}::test_s21_a_name_that_nobody_configured_is_not_sent_by_guess", f"{RULES}::test_s21_a_name_that_a_provider_lists_is_served"),
    "S22": (f"{BODIES}::test_s22_s26_a_tool_that_the_provider_would_run_is_gone_and_the_turn_succeeds", f"{TOOLS}::test_a_tool_that_the_provider_would_run_is_gone_and_the_others_stay"),
    "S23": (f"{BODIES}::test_s23_a_tool_that_names_a_destination_is_refused_before_anybody_is_asked", f"{TOOLS}::test_a_tool_that_names_a_destination_is_refused_at_its_path"),
    "S24": (f"{TOOLS}::test_a_stripped_tool_is_gone_from_each_hiding_place", f"{TOOLS}::test_a_refused_tool_is_refused_in_each_hiding_place"),
    "S25": (f"{BODIES}::test_s25_codexs_body_goes_through_the_official_client_without_its_search", f"{AGENTS}::test_codex_works_without_its_search_and_with_its_namespace"),
    "S26": (f"{BODIES}::test_s22_s26_a_tool_that_the_provider_would_run_is_gone_and_the_turn_succeeds",),
    "S27": (f"{BODIES}::test_s27_a_choice_that_forces_a_tool_that_is_gone_is_refused", f"{TOOLS}::test_a_list_of_allowed_tools_loses_only_the_entry_that_is_gone"),
    "S28": (f"{TOOLS}::test_no_tool_of_anthropics_form_may_be_called_by_code_of_the_provider", f"{TOOLS}::test_no_tool_of_the_responses_form_may_be_called_by_code_of_the_provider"),
    "S29": (f"{BODIES}::test_s29_where_every_tool_is_gone_there_is_no_list_of_them", f"{TOOLS}::test_when_every_tool_is_gone_so_are_the_list_and_the_choice"),
    "S30": (f"{CONTENT}::test_an_item_of_work_that_a_provider_ran_is_refused", f"{CONTENT}::test_a_block_of_work_that_a_provider_ran_is_refused", f"{CONTENT}::test_an_inert_item_of_the_history_passes_unchanged"),
    "S31": (f"{BODIES}::test_s31_s32_an_address_is_refused_whoever_would_be_sent_it", f"{BODIES}::test_s31_a_picture_that_comes_along_passes", f"{CONTENT}::test_an_address_is_refused_in_every_place_and_disguise"),
    "S32": (f"{BODIES}::test_s31_s32_an_address_is_refused_whoever_would_be_sent_it", f"{CONTENT}::test_an_address_is_refused_in_every_place_and_disguise"),
    "S33": (f"{BODIES}::test_bytes_of_a_file_are_bytes_and_not_an_address", f"{CONTENT}::test_file_data_that_is_neither_base64_nor_a_data_url_is_refused"),
    "S34": (f"{BODIES}::test_s34_what_is_stored_at_a_provider_is_refused", f"{CONTENT}::test_an_id_of_something_stored_is_refused_in_its_nested_places_too"),
    "S35": (f"{CONTENT}::test_an_address_is_refused_in_every_place_and_disguise",),
    "S36": (f"{BODIES}::test_s36_s50_what_agents_do_passes_to_its_own_dialect_byte_for_byte", f"{CONTENT}::test_words_that_look_like_fields_pass_byte_for_byte"),
    "S37": (f"{BODIES}::test_s37_content_of_an_invented_type_is_refused", f"{CONTENT}::test_content_of_an_invented_kind_is_refused"),
    "S38": (f"{BODIES}::test_s38_s49_a_provider_of_responses_is_always_told_to_store_nothing", f"{MEMBERS}::test_a_response_is_not_stored_whatever_the_client_says"),
    "S39": (f"{BODIES}::test_s39_s40_what_goes_on_from_stored_state_is_a_400", f"{MEMBERS}::test_what_continues_stored_state_is_refused_and_told_to_send_the_whole_history"),
    "S40": (f"{BODIES}::test_s39_s40_what_goes_on_from_stored_state_is_a_400", f"{MEMBERS}::test_a_response_in_the_background_is_refused"),
    "S41": (f"{BODIES}::test_s41_s44_s45_s46_labels_prices_and_inventions_go_nowhere_and_are_told_without_their_values",),
    "S42": (f"{BODIES}::test_s42_s43_ids_are_stable_an_agents_own_and_tell_nothing", f"{MEMBERS}::test_an_agents_id_is_stable_its_own_and_tells_nothing"),
    "S43": (f"{BODIES}::test_s42_s43_ids_are_stable_an_agents_own_and_tell_nothing", f"{MEMBERS}::test_a_cache_key_is_its_agents_own"),
    "S44": (f"{BODIES}::test_s41_s44_s45_s46_labels_prices_and_inventions_go_nowhere_and_are_told_without_their_values",),
    "S45": (f"{BODIES}::test_s41_s44_s45_s46_labels_prices_and_inventions_go_nowhere_and_are_told_without_their_values", f"{MEMBERS}::test_a_member_that_is_not_the_agents_to_say_is_gone_and_told"),
    "S46": (f"{BODIES}::test_s41_s44_s45_s46_labels_prices_and_inventions_go_nowhere_and_are_told_without_their_values",),
    "S47": (f"{BODIES}::test_s47_a_refusal_says_policy_field_rule_and_setting_in_the_clients_dialect", f"{BODIES}::test_s47_official_clients_raise_what_they_raise_for_a_bad_request"),
    "S48": (
        f"{RULES}::test_s48_without_a_word_of_it_in_the_config_sockets_are_sealed_and_http_is_open", f"{RULES}::test_s48_a_rule_is_open_for_everybody_or_for_one_kind_of_listener",
        f"{RULES}::test_s48_an_agent_has_rules_of_its_own", f"{RULES}::test_s48_a_rule_that_is_open_for_one_provider_is_shut_for_the_others",
        f"{RULES}::test_s48_a_name_of_no_rule_is_a_fault_of_the_config", f"{RULES}::test_s48_what_is_open_is_said_at_the_start", f"{CALLERS}::test_policies_and_open_rules_are_read",
    ),
    "S49": (f"{BODIES}::test_s49_what_arrives_is_what_its_own_dialects_table_lets_pass", f"{BODIES}::test_s49_each_candidate_of_a_failover_is_sent_what_its_own_table_lets_pass", f"{BODIES}::test_s38_s49_a_provider_of_responses_is_always_told_to_store_nothing"),
    "S50": (f"{BODIES}::test_s36_s50_what_agents_do_passes_to_its_own_dialect_byte_for_byte", f"{SPLICE}::test_what_no_edit_touches_keeps_its_bytes_at_every_depth"),
}  # fmt: skip

LIMITS: dict[str, str] = {
    "S1": "moderations, rerank, images, audio and Ollama's /api are served beside the list, each judged by a table of its own; a multipart form is refused unless its rule is open",
    "S3": "a client may write `provider/model` and tags, which are ours; what goes into a provider's path is one segment, unless the config spells the name out",
    "S7": "`content-encoding: identity` says nothing, and passes",
    "S9": "WebSockets are not served: the upgrade is refused with 426, which clients that have an HTTP form too take at once. The tables judge `response.create` and `response.steer` all the same",
    "S39": "with [server] keep_responses an earlier answer of the same caller is found here, and its history is sent; `conversation`, `prompt` and `background` are refused for open callers too, by a sentence without a rule",
    "S44": "no config sets these members: an operator's own come from the account at the provider, or a header of the provider's entry",
    "S47": "Ollama's errors are one sentence: rule and path are in it, a code is nowhere",
    "S49": "an id that was hashed in the client's words is hashed once more in the provider's: it stays the agent's own",
    "S50": "an output limit is renamed where the service reads another name for it, and a stream asks for usage",
}
"""Where a requirement is not met to the letter, and what holds in its place."""

ROOT = Path(__file__).parent.parent


def _tests_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_requirement_is_in_the_table() -> None:
    assert list(TESTS) == [f"S{n}" for n in range(1, 51)]
    assert set(LIMITS) <= set(TESTS)


@pytest.mark.parametrize("requirement", TESTS)
def test_the_tests_of_a_requirement_exist(requirement: str) -> None:
    assert TESTS[requirement]
    for test in TESTS[requirement]:
        file, _, name = test.partition("::")
        assert name in _tests_of(file), test


def test_every_test_that_names_a_requirement_is_in_its_row() -> None:
    for file in (PATHS, BODIES, RULES):
        for name in _tests_of(file):
            for number in re.findall(r"_s(\d+)(?=_)", name):
                row = TESTS[f"S{number}"]
                alike = [test for test in row if test.startswith(file)]
                assert alike, f"{file}::{name} is not in the row of S{number}"


@pytest.mark.parametrize("requirement", LIMITS)
def test_a_limit_is_told_in_words(requirement: str) -> None:
    assert len(LIMITS[requirement]) > 20
