"""docs/reference/translation.md#requirements through the whole gateway: OpenAI's chat, completions
and embeddings clients, before providers of each dialect.

Other clients are those of test_requirements_forms.py. The table says where each requirement is
tested, or why it is not yet. What a wire alone can prove is tested there; what is here is what only
the gateway can: that the wire's word becomes headers, records, statuses and bytes on a socket.
"""

from __future__ import annotations

import ast
import asyncio
import base64
import json
import struct
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from modelplex.core.errors import RateLimited
from modelplex.core.request import Attempt
from modelplex.dialects.core.turns import SYSTEM_NOTE
from modelplex.routing.circuit_breaker import MAX_WAIT, BreakerRules
from modelplex.routing.circuits import Circuits
from tests.gateways import WAIT_S, Answer, Running, gateway, one
from tests.official import events_of, validate_chunks
from tests.upstreams import (
    DONE,
    STREAM_HEAD,
    USAGE,
    Act,
    Scripted,
    answer,
    chat_answer,
    chat_stream,
    chunk,
    provider,
    stall,
    stream,
)

HERE = "tests/test_requirements.py"
GATEWAY = "tests/pipeline/test_gateway.py"
ATTEMPT = "tests/pipeline/test_attempt.py"
TRANSLATED = "tests/test_translated_providers.py"
ANTHROPIC_WIRE = "tests/dialects/anthropic/test_request_out.py"
CHAT_REQUESTS = "tests/dialects/openai_chat/test_request_out.py"
CHAT_ANSWERS = "tests/dialects/openai_chat/test_response_in.py"
CHAT_WRITER = "tests/dialects/openai_chat/test_response_out.py"
FORMS = "tests/test_requirements_forms.py"
PAIRS = "tests/test_pairs.py"
PAIRS_TURNS = "tests/test_pairs_turns.py"

REQUIREMENTS: dict[str, str | tuple[str, ...]] = {
    "R1": (f"{FORMS}::test_r1_a_call_that_comes_whole_has_its_arguments_in_a_delta",),
    "R2": (f"{CHAT_ANSWERS}::test_arguments_in_the_first_delta_are_read", f"{HERE}::test_r2_r3_r4_r9_r10_r12_r33_r43_odd_streams_become_openais_own"),
    "R3": (f"{HERE}::test_r2_r3_r4_r9_r10_r12_r33_r43_odd_streams_become_openais_own",),
    "R4": (f"{CHAT_ANSWERS}::test_no_calls_beside_content_make_no_call", f"{HERE}::test_r2_r3_r4_r9_r10_r12_r33_r43_odd_streams_become_openais_own"),
    "R5": (f"{FORMS}::test_r5_arguments_are_told_once_however_often_the_provider_tells_them",),
    "R6": (f"{HERE}::test_r6_thinking_text_and_call_keep_their_order", f"{TRANSLATED}::test_ollamas_thinking_text_and_call_keep_their_order"),
    "R7": (f"{TRANSLATED}::test_ollamas_calls_before_the_last_line_are_calls",),
    "R8": (f"{TRANSLATED}::test_thinking_text_and_parallel_calls_arrive_in_a_stream", f"{TRANSLATED}::test_a_whole_answer_is_the_same_as_its_stream"),
    "R9": (f"{HERE}::test_r2_r3_r4_r9_r10_r12_r33_r43_odd_streams_become_openais_own", f"{TRANSLATED}::test_ollamas_calls_before_the_last_line_are_calls"),
    "R10": (f"{HERE}::test_r2_r3_r4_r9_r10_r12_r33_r43_odd_streams_become_openais_own", f"{TRANSLATED}::test_thinking_text_and_parallel_calls_arrive_in_a_stream"),
    "R11": (f"{FORMS}::test_r11_blocks_come_one_after_another_whatever_the_provider_mixes", f"{PAIRS}::test_each_client_is_told_what_each_provider_says"),
    "R12": (f"{CHAT_WRITER}::test_the_steps_of_a_stream_are_openais", f"{HERE}::test_r2_r3_r4_r9_r10_r12_r33_r43_odd_streams_become_openais_own"),
    "R13": (f"{HERE}::test_r13_one_usage_chunk_where_it_was_asked_for_and_none_elsewhere", f"{HERE}::test_r13_a_passing_stream_gives_usage_only_to_those_who_asked"),
    "R14": (f"{HERE}::test_r14_usage_is_read_wherever_the_provider_puts_it", f"{CHAT_WRITER}::test_usage_of_the_same_dialect_comes_back_to_the_last_byte"),
    "R15": (f"{TRANSLATED}::test_thinking_and_its_signature_go_back_byte_for_byte", f"{TRANSLATED}::test_redacted_thinking_goes_back_byte_for_byte"),
    "R16": (f"{HERE}::test_r16_a_signature_of_gemini_returns_on_the_same_part", f"{HERE}::test_r16_a_signature_that_came_through_the_hub_goes_home_too"),
    "R17": (f"{TRANSLATED}::test_sealed_state_never_goes_to_another_provider", f"{HERE}::test_r17_state_of_a_passing_provider_returns_to_its_maker_alone"),
    "R18": (f"{HERE}::test_r18_r19_r23_r36_a_conversation_is_one_that_anthropic_accepts",),
    "R19": (f"{HERE}::test_r18_r19_r23_r36_a_conversation_is_one_that_anthropic_accepts", f"{ANTHROPIC_WIRE}::test_empty_text_is_not_sent_and_neither_is_a_message_without_anything_else"),
    "R20": (f"{HERE}::test_r20_cache_markers_are_kept_translated_or_told_as_lost", f"{ANTHROPIC_WIRE}::test_every_cache_marker_is_sent_with_its_lifetime"),
    "R21": (f"{HERE}::test_r21_a_schema_is_native_or_a_lone_forced_tool_or_refused", f"{TRANSLATED}::test_a_schema_is_asked_for_natively_and_comes_back_parsed"),
    "R22": (f"{HERE}::test_r22_each_choice_has_its_form_at_anthropic", f"{HERE}::test_r22_what_ollama_cannot_choose_is_told"),
    "R23": (f"{HERE}::test_r18_r19_r23_r36_a_conversation_is_one_that_anthropic_accepts", f"{HERE}::test_r23_a_later_instruction_keeps_its_place_where_there_is_one"),
    "R24": (f"{TRANSLATED}::test_every_way_to_stop_is_told_in_the_clients_words", f"{HERE}::test_r24_no_refusal_full_context_or_pause_is_a_plain_stop"),
    "R25": (f"{HERE}::test_r25_arguments_that_a_limit_cut_are_length_and_others_the_models", f"{GATEWAY}::test_tool_arguments_of_a_stream_that_was_cut_are_never_a_finished_call"),
    "R26": (f"{GATEWAY}::test_a_stream_reset_at_any_byte_never_looks_whole", f"{TRANSLATED}::test_a_stream_cut_at_any_event_raises", f"{TRANSLATED}::test_ollamas_broken_streams_raise"),
    "R27": (f"{ATTEMPT}::test_before_the_first_output_of_a_stream_the_next_provider_is_tried", f"{TRANSLATED}::test_an_error_inside_a_200_before_output_fails_over_unseen", f"{HERE}::test_r27_r53_an_error_line_of_ollama_before_output_fails_over"),
    "R28": (f"{ATTEMPT}::test_when_all_fail_the_most_telling_error_comes_with_the_attempts_and_the_shortest_wait", f"{HERE}::test_r28_after_failover_the_limits_and_the_shortest_wait_reach_the_client", f"{HERE}::test_r28_the_headers_of_a_limit_are_forwarded_as_received"),
    "R29": (f"{ATTEMPT}::test_no_retry_after_is_ever_invented", f"{HERE}::test_r29_a_limit_without_its_time_does_not_cool_the_account_down"),
    "R30": (f"{GATEWAY}::test_a_silent_stream_gets_comments_and_then_times_out", f"{GATEWAY}::test_before_the_first_byte_of_the_upstream_nothing_is_sent", f"{HERE}::test_r30_a_caller_to_whom_nothing_goes_gets_pings_though_its_provider_speaks", f"{HERE}::test_r30_silence_is_bridged_for_15_s_by_default"),
    "R31": (f"{GATEWAY}::test_a_caller_that_hangs_up_while_it_waits_ends_the_upstream_at_once", f"{GATEWAY}::test_a_caller_that_hangs_up_in_mid_stream_ends_the_upstream_and_leaves_a_record", f"{HERE}::test_r31_what_went_before_a_hang_up_is_in_the_record"),
    "R32": (f"{TRANSLATED}::test_thinking_and_its_signature_go_back_byte_for_byte", f"{TRANSLATED}::test_a_conversation_with_ollama_goes_on", f"{HERE}::test_r32_no_address_is_fetched"),
    "R33": (f"{TRANSLATED}::test_thinking_text_and_parallel_calls_arrive_in_a_stream", f"{HERE}::test_r2_r3_r4_r9_r10_r12_r33_r43_odd_streams_become_openais_own"),
    "R34": ("tests/test_openai_python.py::test_the_demo_streams_what_it_would_have_answered", f"{TRANSLATED}::test_whole_answers_are_of_the_clients_types", f"{HERE}::test_r2_r3_r4_r9_r10_r12_r33_r43_odd_streams_become_openais_own"),
    "R35": (f"{HERE}::test_r35_the_output_limit_goes_under_the_one_name_that_is_read", f"{CHAT_REQUESTS}::test_the_output_limit_goes_under_one_name"),
    "R36": (f"{HERE}::test_r18_r19_r23_r36_a_conversation_is_one_that_anthropic_accepts", f"{HERE}::test_r36_r44_effort_becomes_a_budget_below_the_limit"),
    "R37": (f"{HERE}::test_r37_the_newer_version_is_sent_no_sampling_and_each_parameter_is_told",),
    "R38": (f"{FORMS}::test_r38_one_version_and_the_betas_pass_as_the_client_said_them", f"{FORMS}::test_r38_the_version_goes_to_no_provider_of_another_dialect_and_comes_from_no_other_client"),
    "R39": (f"{GATEWAY}::test_no_credential_of_the_caller_goes_on_and_one_of_ours_does", f"{HERE}::test_r39_only_our_credential_reaches_a_provider_of_any_dialect"),
    "R40": (f"{GATEWAY}::test_a_request_passes_with_every_value_as_it_was_but_the_model", f"{HERE}::test_r40_a_streamed_request_passes_with_every_value_as_it_was"),
    "R41": (f"{FORMS}::test_r41_what_was_said_before_is_sent_with_the_same_bytes_on_every_turn", f"{PAIRS_TURNS}::test_messages_and_its_own_provider_pass_signed_thoughts_untouched"),
    "R42": (f"{HERE}::test_r42_r58_long_names_and_free_tools_come_back_as_they_went",),
    "R43": (f"{HERE}::test_r43_deepseeks_reasoning_goes_back_with_its_call", f"{HERE}::test_r2_r3_r4_r9_r10_r12_r33_r43_odd_streams_become_openais_own", f"{CHAT_REQUESTS}::test_reasoning_goes_back_in_the_field_that_the_service_reads"),
    "R44": (f"{HERE}::test_r36_r44_effort_becomes_a_budget_below_the_limit", f"{HERE}::test_r44_effort_has_its_word_everywhere"),
    "R45": (f"{HERE}::test_r45_a_forced_choice_yields_to_thinking_and_is_told", f"{ANTHROPIC_WIRE}::test_a_call_is_not_forced_while_thinking_nor_where_the_model_refuses"),
    "R46": (f"{HERE}::test_r46_several_choices_are_refused_where_there_is_one",),
    "R47": (f"{FORMS}::test_r47_r49_every_response_object_is_whole_and_every_event_in_its_place", f"{PAIRS}::test_each_client_is_told_what_each_provider_says"),
    "R48": (f"{HERE}::test_r51_a_stream_is_the_same_however_its_provider_cuts_it", "tests/official.py::events_of"),
    "R49": (f"{FORMS}::test_r47_r49_every_response_object_is_whole_and_every_event_in_its_place", f"{PAIRS}::test_each_client_is_told_what_each_provider_says"),
    "R50": (f"{GATEWAY}::test_a_silent_stream_gets_comments_and_then_times_out", f"{HERE}::test_r30_a_caller_to_whom_nothing_goes_gets_pings_though_its_provider_speaks"),
    "R51": ("tests/dialects/core/test_sse.py::test_a_stream_cut_at_any_byte_gives_the_same_events", "tests/dialects/openai_chat/test_passthrough.py::test_a_stream_passes_one_byte_at_a_time_with_any_line_ending", f"{HERE}::test_r51_a_stream_is_the_same_however_its_provider_cuts_it"),
    "R52": (f"{HERE}::test_r52_only_whole_events_are_written",),
    "R53": (f"{HERE}::test_r27_r53_an_error_line_of_ollama_before_output_fails_over", f"{TRANSLATED}::test_ollamas_broken_streams_raise"),
    "R54": (f"{FORMS}::test_r54_prompt_tokens_are_fresh_and_read_and_written_ones_together", f"{PAIRS}::test_each_client_is_told_what_each_provider_says"),
    "R55": (f"{FORMS}::test_r55_a_provider_that_counts_is_asked_and_its_count_passes", f"{FORMS}::test_r55_where_nobody_counts_an_estimate_is_marked_as_one", f"{FORMS}::test_r55_of_several_providers_the_one_that_counts_is_asked", f"{FORMS}::test_r55_a_provider_that_turns_out_not_to_count_gets_an_estimate_in_its_place", f"{FORMS}::test_r55_a_count_that_fails_is_no_estimate"),
    "R56": (f"{HERE}::test_r56_vectors_keep_order_dimensions_and_values", f"{TRANSLATED}::test_ollama_embeds_in_both_of_the_clients_forms", "tests/dialects/openai_chat/test_embeddings.py::test_vectors_keep_order_dimensions_and_values_between_both_encodings"),
    "R57": (f"{ATTEMPT}::test_a_rejected_key_rotates_and_never_shows_as_401", f"{HERE}::test_r57_the_next_key_is_tried_at_a_provider_of_any_dialect"),
    "R58": (f"{HERE}::test_r42_r58_long_names_and_free_tools_come_back_as_they_went",),
    "R59": ("tests/test_sealed_bodies.py::test_s22_s26_a_tool_that_the_provider_would_run_is_gone_and_the_turn_succeeds", "tests/test_sealed_requirements.py::test_the_tests_of_a_requirement_exist"),
    "R60": (f"{HERE}::test_r60_every_loss_is_in_header_and_record_and_refused_where_the_config_says_so",),
}  # fmt: skip

CLAUDE = "claude-sonnet-4-5"
QUICK = "\n[failover]\nbackoff = 0.01\nretries = 0\nbreaker_failures = 1000\n"
TRANSCRIPTS = Path(__file__).parent / "transcripts"
NDJSON_HEAD = STREAM_HEAD.replace(b"text/event-stream", b"application/x-ndjson")
TIME: dict[str, Any] = {
    "type": "function",
    "function": {"name": "time", "parameters": {"type": "object", "properties": {}}},
}
WEATHER: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}  # fmt: skip


def test_every_requirement_is_in_the_table_and_every_test_that_it_names_exists() -> None:
    assert list(REQUIREMENTS) == [f"R{number}" for number in range(1, 61)]
    root = Path(__file__).parent.parent
    names: dict[str, set[str]] = {}
    for where in REQUIREMENTS.values():
        if isinstance(where, str):
            assert where.startswith("of ")
            continue
        for path, name in (each.split("::") for each in where):
            if path not in names:
                tree = ast.parse((root / path).read_text())
                names[path] = {
                    n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
                }
            assert name in names[path], f"{path} has no {name}"


# --- what the tests have in common ----------------------------------------------------------------


def anthropic(up: Scripted, *, model: str = CLAUDE, name: str = "claude", **more: Any) -> str:
    return one(up.url.removesuffix("/v1"), name=name, type="anthropic", models=json.dumps([model]), **more)


def ollama(up: Scripted, *, name: str = "llama", **more: Any) -> str:
    return one(up.url.removesuffix("/v1"), name=name, type="ollama", models='["m"]', **more)


def config_of(kind: str, up: Scripted, **more: Any) -> str:
    """A provider of this dialect that serves `m`."""
    if kind == "anthropic":
        return anthropic(up, **more) + f'[aliases]\nm = "claude/{CLAUDE}"\n'
    return ollama(up, **more) if kind == "ollama" else one(up.url, **more)


def claude_answer(*content: dict[str, Any], stop: str = "end_turn", **more: Any) -> Act:
    blocks = list(content) or [{"type": "text", "text": "Fine."}]
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": CLAUDE, "content": blocks, "stop_reason": stop, "stop_sequence": None}  # fmt: skip
    return answer(message | {"usage": {"input_tokens": 10, "output_tokens": 3}} | more)


def claude_events(*text: str, usage: bool = True) -> list[bytes]:
    start: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": CLAUDE, "content": [], "stop_reason": None}  # fmt: skip
    delta: dict[str, Any] = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
    }
    if usage:
        start["usage"] = {"input_tokens": 10, "output_tokens": 1}
        delta["usage"] = {"output_tokens": 3}
    told: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": t}}
            for t in text
        ),
        {"type": "content_block_stop", "index": 0},
        delta,
        {"type": "message_stop"},
    ]
    return [sse(each) for each in told]


def sse(event: dict[str, Any]) -> bytes:
    return b"event: " + str(event["type"]).encode() + b"\ndata: " + json.dumps(event).encode() + b"\n\n"


PING = sse({"type": "ping"})


def lines(*told: dict[str, Any]) -> list[bytes]:
    return [
        json.dumps({"model": "m", "created_at": "2026-08-21T10:00:00Z"} | each).encode() + b"\n"
        for each in told
    ]


def said(text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}, "done": False}


OVER: dict[str, Any] = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
COUNTED: dict[str, Any] = OVER | {"prompt_eval_count": 10, "eval_count": 3}


def ollama_answer(text: str = "Fine.", **more: Any) -> Act:
    return answer(lines(COUNTED | {"message": {"role": "assistant", "content": text}} | more)[0])


def fine(kind: str) -> Act:
    return {"anthropic": claude_answer(), "ollama": ollama_answer()}.get(kind) or answer(chat_answer("Fine."))


def fine_stream(kind: str, *texts: str, usage: bool = True) -> tuple[list[bytes], bytes]:
    """A stream's events, and the head that it comes with."""
    if kind == "anthropic":
        return claude_events(*texts, usage=usage), STREAM_HEAD
    if kind == "ollama":
        return lines(*map(said, texts), COUNTED if usage else OVER), NDJSON_HEAD
    return list(chat_stream(*texts, usage=usage)), STREAM_HEAD


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content[0] if isinstance(content[0], str) else list(content)}


def changes(got: Answer) -> set[str]:
    return {each for each in got.headers.get("x-modelplex-changes", "").split(",") if each}


def chunks(got: Answer) -> list[Any]:
    """What the events hold; line ends are the provider's where its bytes pass."""
    body = got.body.replace(b"\r\n", b"\n")
    return [json.loads(event) for event in events_of(body) if event != "[DONE]"]


def text_of(got: Answer) -> str:
    return "".join(c["delta"].get("content") or "" for each in chunks(got) for c in each.get("choices", ()))


def deltas(got: Answer) -> list[dict[str, Any]]:
    return [c["delta"] for each in chunks(got) for c in each["choices"]]


def calls_of(got: Answer) -> list[tuple[str, str, str]]:
    """The calls of a stream as id, name and arguments."""
    calls: dict[int, list[str]] = {}
    for delta in deltas(got):
        for call in delta.get("tool_calls") or ():
            held = calls.setdefault(call["index"], ["", "", ""])
            held[0] += call.get("id") or ""
            function: dict[str, str] = call.get("function") or call.get("custom") or {}
            held[1] += function.get("name") or ""
            held[2] += function.get("arguments") or function.get("input") or ""
    return [(c[0], c[1], c[2]) for _, c in sorted(calls.items())]


def finish_of(got: Answer) -> list[str]:
    return [c["finish_reason"] for each in chunks(got) for c in each["choices"] if c["finish_reason"]]


# --- streams of providers -------------------------------------------------------------------------

FOREIGN: dict[str, Any] = {
    "role": "assistant",
    "content": "Before.",
    "reasoning_details": [{"type": "reasoning.text", "text": "Hm.", "signature": "c2lnbmVkIGJ5IG5vYm9keQ==", "format": "anthropic-claude-v1"}],
}  # fmt: skip
"""Somebody else's state: where the config says that it is dropped, the answer of an OpenAI provider
too goes through the hub.
"""
THROUGH_THE_HUB = '[server]\non_pinned_state = "drop"\n'


async def test_r2_r3_r4_r9_r10_r12_r33_r43_odd_streams_become_openais_own(tmp_path: Path) -> None:
    """R2 arguments in the first delta; R3 text and call in one chunk; R4 no calls beside content;
    R9 `stop` after calls; R10 names once, indices without gaps; R12 one role; R33 no arguments are
    `{}`; R43 reasoning told twice is told once; R34 all of it typed, a numeric id too.
    """
    first = {
        "index": 1,
        "id": "t1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Bern"}'},
    }
    odd = [
        chunk({"role": "assistant", "content": "", "reasoning": "Hm", "reasoning_content": "Hm"}, id=17),
        chunk({"role": "assistant", "reasoning": "m.", "reasoning_content": "m."}, id=17),
        chunk({"role": "assistant", "content": "Let", "tool_calls": []}, id=17),
        chunk({"content": " me.", "tool_calls": None}, id=17),
        chunk({"role": "assistant", "content": " See:", "tool_calls": [first]}, id=17),
        chunk({"tool_calls": [first | {"function": {"name": "weather", "arguments": ""}}]}, id=17),
        chunk({"tool_calls": [{"index": 4, "id": "t2", "type": "function", "function": {"name": "time", "arguments": ""}}]}, id=17),
        chunk({}, finish="stop", id=17, usage=USAGE),
        DONE,
    ]  # fmt: skip
    async with provider(stream(*odd)) as up, gateway(THROUGH_THE_HUB + one(up.url), folder=tmp_path) as gw:
        got = await gw.chat(stream=True, messages=[user("Hi"), FOREIGN, user("And?")], tools=[WEATHER, TIME])
        validate_chunks([e for e in events_of(got.body) if e != "[DONE]"], wants_usage=False)
        assert [chunk["id"] for chunk in chunks(got)] == ["17"] * len(chunks(got))
        assert "".join(d.get("reasoning_content") or "" for d in deltas(got)) == "Hmm."
        assert text_of(got) == "Let me. See:"
        assert calls_of(got) == [("t1", "weather", '{"city": "Bern"}'), ("t2", "time", "{}")]
        assert finish_of(got) == ["tool_calls"]
        order = [kind for d in deltas(got) for kind in ("content", "tool_calls") if d.get(kind)]
        assert order == sorted(order)
        record = await gw.record()
        assert (record.passthrough, record.finish_reason) == (False, "tool_calls")


@pytest.mark.parametrize("kind", ["anthropic", "ollama"])
async def test_r6_thinking_text_and_call_keep_their_order(kind: str, tmp_path: Path) -> None:
    case = (
        "anthropic_messages/thinking_text_two_tools/stream.sse"
        if kind == "anthropic"
        else "ollama/thinking_text_tool/response.ndjson"
    )
    body = (TRANSCRIPTS / case).read_bytes()
    act = stream(body, head=STREAM_HEAD if kind == "anthropic" else NDJSON_HEAD)
    async with provider(act) as up, gateway(config_of(kind, up), folder=tmp_path) as gw:
        got = await gw.chat(stream=True, tools=[WEATHER, TIME])
        kinds = [k for d in deltas(got) for k in ("reasoning_content", "content", "tool_calls") if d.get(k)]
        assert list(dict.fromkeys(kinds)) == ["reasoning_content", "content", "tool_calls"]
        assert kinds == sorted(kinds, key=["reasoning_content", "content", "tool_calls"].index)


@pytest.mark.parametrize("kind", ["anthropic", "ollama"])
@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("asked", [True, False])
async def test_r13_one_usage_chunk_where_it_was_asked_for_and_none_elsewhere(
    *, asked: bool, counted: bool, kind: str, tmp_path: Path
) -> None:
    """Where the provider counted nothing the one chunk is an estimate, and the Record says so
    (docs/reference/translation.md#usage).
    """
    pieces, head = fine_stream(kind, "Hello ", "there, you", usage=counted)
    async with (
        provider(stream(*pieces, head=head)) as up,
        gateway(config_of(kind, up), folder=tmp_path) as gw,
    ):
        got = await gw.chat(stream=True, stream_options={"include_usage": asked}, messages=[user("x" * 41)])
        validate_chunks([e for e in events_of(got.body) if e != "[DONE]"], wants_usage=asked)
        record = await gw.record()
        assert record.usage is not None
        assert (record.usage.input, record.usage.output) == ((10, 3) if counted else (11, 4))
        assert record.usage.estimated is not counted
        if asked:
            usage = chunks(got)[-1]["usage"]
            assert (usage["prompt_tokens"], usage["completion_tokens"]) == ((10, 3) if counted else (11, 4))
        if not counted:
            assert record.cost is None


@pytest.mark.parametrize("asked", [True, False])
async def test_r13_a_passing_stream_gives_usage_only_to_those_who_asked(
    *, asked: bool, tmp_path: Path
) -> None:
    pieces = chat_stream("Hi")
    async with provider(stream(*pieces)) as up, gateway(one(up.url), folder=tmp_path) as gw:
        got = await gw.chat(stream=True, stream_options={"include_usage": asked})
        assert up.seen[0].json["stream_options"] == {"include_usage": True}
        assert got.body == b"".join(p for p in pieces if asked or b"usage" not in p)


PLACES: dict[str, list[bytes]] = {
    "an extra chunk": [chunk({"content": "Hi"}), chunk({}, finish="stop"), chunk(usage=USAGE), DONE],
    "the finish chunk": [chunk({"content": "Hi"}), chunk({}, finish="stop", usage=USAGE), DONE],
    "every chunk": [
        chunk({"content": "H"}, usage=USAGE | {"completion_tokens": 1}),
        chunk({"content": "i"}, usage=USAGE),
        chunk({}, finish="stop", usage=USAGE),
        DONE,
    ],
    "beside empty choices": [
        chunk({"content": "Hi"}),
        chunk({}, finish="stop"),
        chunk(choices=[], usage=USAGE),
        DONE,
    ],
}


@pytest.mark.parametrize("place", PLACES)
async def test_r14_usage_is_read_wherever_the_provider_puts_it(place: str, tmp_path: Path) -> None:
    details = {
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    pieces = [
        piece.replace(b'"total_tokens": 5', json.dumps({"total_tokens": 5} | details)[1:-1].encode())
        for piece in PLACES[place]
    ]
    async with provider(stream(*pieces)) as up, gateway(one(up.url), folder=tmp_path) as gw:
        got = await gw.chat(stream=True, stream_options={"include_usage": True})
        assert got.body == b"".join(pieces)
        usage = (await gw.record()).usage
        assert usage is not None
        assert (usage.fresh, usage.cache_read, usage.output, usage.reasoning, usage.estimated) == (
            1,
            2,
            2,
            1,
            False,
        )


@pytest.mark.parametrize("case", ["refusal", "context_full", "paused_turn"])
async def test_r24_no_refusal_full_context_or_pause_is_a_plain_stop(case: str, tmp_path: Path) -> None:
    body = (TRANSCRIPTS / "anthropic_messages" / case / "stream.sse").read_bytes()
    async with provider(stream(body)) as up, gateway(config_of("anthropic", up), folder=tmp_path) as gw:
        got = await gw.chat(stream=True)
        assert finish_of(got) == ["content_filter" if case == "refusal" else "length"]
        record = await gw.record()
        # A loss that is found while streaming cannot be in the header any more, and is in the
        # Record.
        assert ("choices[].finish_reason" in [c.path for c in record.changes]) == (case == "paused_turn")
        assert "x-modelplex-changes" not in got.headers


@pytest.mark.parametrize("then", [stall, None])
async def test_losses_of_a_stream_that_breaks_are_in_the_record_too(then: Act | None, tmp_path: Path) -> None:
    cited = {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "x", "document_index": 0, "document_title": None, "start_char_index": 0, "end_char_index": 1}}  # fmt: skip
    pieces = [*claude_events("Hello")[:3], sse({"type": "content_block_delta", "index": 0, "delta": cited})]
    async with (
        provider(stream(*pieces, then=then, end=False)) as up,
        gateway(config_of("anthropic", up, idle_timeout=0.3), folder=tmp_path) as gw,
    ):
        got = await gw.chat(stream=True)
        assert "error" in chunks_with_errors(got)[-1]
        record = await gw.record()
        assert (record.outcome, [f"{c.op}={c.path}" for c in record.changes]) == (
            "broken",
            ["drop=choices[].message.annotations"],
        )


def chunks_with_errors(got: Answer) -> list[Any]:
    return [json.loads(event) for event in events_of(got.body)]


@pytest.mark.parametrize("finish", ["length", "tool_calls", "stop"])
async def test_r25_arguments_that_a_limit_cut_are_length_and_others_the_models(
    finish: str, tmp_path: Path
) -> None:
    body = chat_answer(
        "", tool_calls=[{"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a": '}}]
    )
    body["choices"][0]["finish_reason"] = finish
    async with provider(answer(body)) as up, gateway(one(up.url) + QUICK, folder=tmp_path) as gw:
        got = await gw.chat()
        assert got.json == body
        asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        told = (await gw.ask("POST", "/v1/messages", asked)).json
        assert told["stop_reason"] == ("max_tokens" if finish == "length" else "tool_use")


@pytest.mark.parametrize("streamed", [True, False])
async def test_r27_r53_an_error_line_of_ollama_before_output_fails_over(
    *, streamed: bool, tmp_path: Path
) -> None:
    error = b'{"error":"llama runner process has terminated"}\n'
    bad = stream(error, head=NDJSON_HEAD) if streamed else answer(error)
    pieces, head = fine_stream("ollama", "Fine.")
    good = stream(*pieces, head=head) if streamed else ollama_answer()
    async with provider(bad) as first, provider(good) as second:
        config = ollama(first, name="first", priority=1) + ollama(second, name="second", priority=2) + QUICK
        async with gateway(config, folder=tmp_path) as gw:
            got = await gw.chat(stream=streamed)
            assert (got.status, got.headers["x-modelplex-provider"]) == (200, "second")
            assert (await gw.record()).attempts[0].message == "Ollama: llama runner process has terminated"


@pytest.mark.parametrize("kind", ["openai", "anthropic", "ollama"])
@pytest.mark.parametrize("size", [1, 3, 17])
async def test_r51_a_stream_is_the_same_however_its_provider_cuts_it(
    size: int, kind: str, tmp_path: Path
) -> None:
    """R48 as well: nothing but `data:` and comments stands in it."""
    pieces, head = fine_stream(kind, "Grüße, ", "👋")
    body = b"".join(pieces)
    cut = stream(*[body[at : at + size] for at in range(0, len(body), size)], head=head)
    crlf = stream(body.replace(b"\n", b"\r\n"), head=head)
    async with (
        provider(stream(body, head=head), cut, crlf) as up,
        gateway(config_of(kind, up), folder=tmp_path) as gw,
    ):
        got = [await gw.chat(stream=True) for _ in range(3)]
        told = [
            [{k: v for k, v in c.items() if k not in {"id", "created"}} for c in chunks(each)] for each in got
        ]
        assert told[0] == told[1] == told[2]
        assert text_of(got[0]) == "Grüße, 👋"
        assert {r.outcome for r in gw.records} == {"ok"}


@pytest.mark.parametrize("kind", ["openai", "anthropic", "ollama"])
async def test_r52_only_whole_events_are_written(kind: str, tmp_path: Path) -> None:
    """Each chunk of HTTP is one write; a client that reads one has whole events."""
    pieces, head = fine_stream(kind, "Hello", " you")
    body = b"".join(pieces)

    async def slowly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for at in range(0, len(body), 7):
            piece = body[at : at + 7]
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async with provider(slowly) as up, gateway(config_of(kind, up), folder=tmp_path) as gw:
        asked = json.dumps({"model": "m", "stream": True, "messages": [user("Hi")]}).encode()
        reader, writer = await asyncio.open_unix_connection(gw.socket)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n")
        writer.write(b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(asked) + asked)
        got = await asyncio.wait_for(reader.read(), WAIT_S)
        writer.close()
        sent: list[bytes] = []
        rest = got.partition(b"\r\n\r\n")[2]
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            sent.append(rest[: int(size, 16)])
            rest = rest[int(size, 16) + 2 :]
        assert len(sent) > 3
        assert sent.pop() == b""
        assert all(each.startswith(b"data: ") and each.endswith(b"\n\n") for each in sent)


# --- usage that nobody counted (docs/reference/translation.md#usage) ------------------------------


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_passing_answer_without_usage_stays_without_and_its_record_has_an_estimate(
    *, streamed: bool, tmp_path: Path
) -> None:
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a": 12}'}}
    body = chat_answer("Hello you", reasoning_content="0123456789", tool_calls=[call])
    del body["usage"]
    pieces = [
        chunk({"role": "assistant", "reasoning_content": "0123456789"}),
        chunk({"content": "Hello you"}),
        chunk({"tool_calls": [{"index": 0} | call]}),
        chunk({}, finish="tool_calls"),
        DONE,
    ]
    async with (
        provider(stream(*pieces) if streamed else answer(body)) as up,
        gateway(one(up.url, models='["gpt-4o"]'), folder=tmp_path) as gw,
    ):
        picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4000}}
        got = await gw.chat(
            "gpt-4o", stream=streamed, messages=[user({"type": "text", "text": "x" * 40}, picture)]
        )
        assert got.body == (b"".join(pieces) if streamed else json.dumps(body).encode())
        record = await gw.record()
        assert record.usage is not None
        # Ten tokens of text asked, a picture's bytes not among them; 10 + 9 + 9 characters
        # answered.
        assert (record.usage.input, record.usage.output, record.usage.estimated) == (10, 7, True)
        assert record.cost is None


@pytest.mark.parametrize("kind", ["anthropic", "ollama"])
async def test_a_whole_translated_answer_without_usage_carries_an_estimate(kind: str, tmp_path: Path) -> None:
    bare = lines(OVER | {"message": {"role": "assistant", "content": "Hello you"}})[0]
    act = (
        claude_answer({"type": "text", "text": "Hello you"}, usage=None)
        if kind == "anthropic"
        else answer(bare)
    )
    async with provider(act) as up, gateway(config_of(kind, up), folder=tmp_path) as gw:
        got = await gw.chat(messages=[user("x" * 40)])
        assert got.json["usage"]["prompt_tokens"] == 10
        assert (got.json["usage"]["completion_tokens"], got.json["usage"]["total_tokens"]) == (3, 13)
        record = await gw.record()
        assert record.usage is not None
        assert record.usage.estimated


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_completion_without_usage_is_estimated_from_its_prompt(
    *, streamed: bool, tmp_path: Path
) -> None:
    told = {"id": "c1", "object": "text_completion", "created": 1, "model": "m"}
    choice = {"index": 0, "text": "Hello you", "finish_reason": "stop", "logprobs": None}
    pieces = [b"data: " + json.dumps(told | {"choices": [choice]}).encode() + b"\n\n", DONE]
    async with (
        provider(stream(*pieces) if streamed else answer(told | {"choices": [choice]})) as up,
        gateway(one(up.url), folder=tmp_path) as gw,
    ):
        body = {"model": "m", "prompt": [[1, 2, 3], [4, 5]], "stream": streamed}
        assert (await gw.ask("POST", "/v1/completions", body)).status == 200
        usage = (await gw.record()).usage
        assert usage is not None
        assert (usage.input, usage.output, usage.estimated) == (5, 3, True)


async def test_ollamas_streamed_completion_without_counts_has_an_estimate_for_who_asks(
    tmp_path: Path,
) -> None:
    pieces = lines(
        {"response": "Hello you", "done": False}, {"response": "", "done": True, "done_reason": "stop"}
    )
    async with provider(stream(*pieces, head=NDJSON_HEAD)) as up, gateway(ollama(up), folder=tmp_path) as gw:
        body = {"model": "m", "prompt": "x" * 8, "stream": True, "stream_options": {"include_usage": True}}
        got = await gw.ask("POST", "/v1/completions", body)
        assert chunks(got)[-1]["choices"] == []
        assert chunks(got)[-1]["usage"]["total_tokens"] == 2 + 3


@pytest.mark.parametrize("kind", ["openai", "ollama"])
async def test_vectors_without_usage_are_estimated_and_the_client_gets_it_where_it_is_required(
    kind: str, tmp_path: Path
) -> None:
    passing = {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
        "model": "m",
    }
    act = answer({"model": "m", "embeddings": [[0.5]]} if kind == "ollama" else passing)
    async with provider(act) as up, gateway(config_of(kind, up), folder=tmp_path) as gw:
        got = await gw.ask(
            "POST",
            "/v1/embeddings",
            {"model": "m", "input": ["x" * 20, "y" * 20], "encoding_format": "float"},
        )
        assert got.json.get("usage") == (
            {"prompt_tokens": 10, "total_tokens": 10} if kind == "ollama" else None
        )
        usage = (await gw.record()).usage
        assert usage is not None
        assert (usage.input, usage.output, usage.estimated) == (10, 0, True)


async def test_a_call_that_failed_before_its_answer_is_not_estimated(tmp_path: Path) -> None:
    async with (
        provider(answer(b"busy", status=503)) as up,
        gateway(one(up.url) + QUICK, folder=tmp_path) as gw,
    ):
        assert (await gw.chat()).status == 503
        assert (await gw.record()).usage is None


@pytest.mark.parametrize("kind", ["openai", "anthropic", "ollama"])
async def test_r31_what_went_before_a_hang_up_is_in_the_record(kind: str, tmp_path: Path) -> None:
    pieces, head = fine_stream(kind, "Hello you", usage=False)
    until = 3 if kind == "anthropic" else 2 if kind == "openai" else 1
    async with (
        provider(stream(*pieces[:until], head=head, then=stall)) as up,
        gateway(config_of(kind, up), folder=tmp_path) as gw,
    ):
        asked = json.dumps({"model": "m", "stream": True, "messages": [user("x" * 20)]}).encode()
        reply = await gw.send("POST", "/v1/chat/completions", asked, unix=True)
        assert await reply.chunk()
        reply.close()
        await asyncio.wait_for(up.hung_up.wait(), 1.0)
        record = await gw.record()
        assert record.outcome == "client_closed"
        assert record.usage is not None
        assert (record.usage.input, record.usage.output, record.usage.estimated) == (5, 3, True)


# --- what goes to Anthropic and Ollama ------------------------------------------------------------


async def test_r18_r19_r23_r36_a_conversation_is_one_that_anthropic_accepts(tmp_path: Path) -> None:
    """R18 results of a turn in one message, first; R19 no empty text; R23 a later instruction as a
    note, told; R36 max_tokens always.
    """
    calls = [
        {"id": f"t{n}", "type": "function", "function": {"name": "time", "arguments": ""}} for n in (1, 2)
    ]
    messages = [
        {"role": "system", "content": "Be brief."},
        user({"type": "text", "text": ""}, {"type": "text", "text": "Hi"}),
        {"role": "assistant", "content": "  \n", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "t2", "content": "two"},
        {"role": "tool", "tool_call_id": "t1", "content": ""},
        {"role": "developer", "content": "Now in French."},
        user("Go on"),
        user(""),
    ]
    async with provider(claude_answer()) as up, gateway(config_of("anthropic", up), folder=tmp_path) as gw:
        got = await gw.chat(messages=messages, tools=[TIME])
        body = up.seen[0].json
        assert body["max_tokens"] > 0
        assert [m["role"] for m in body["messages"]] == ["user", "assistant", "user"]
        assert body["messages"][0]["content"] == [{"type": "text", "text": "Hi"}]
        assert [b["type"] for b in body["messages"][1]["content"]] == ["tool_use", "tool_use"]
        assert [b["input"] for b in body["messages"][1]["content"]] == [{}, {}]
        results, rest = body["messages"][2]["content"][:2], body["messages"][2]["content"][2:]
        assert [r["tool_use_id"] for r in results] == ["t1", "t2"]
        assert [b["type"] for b in rest] == ["text", "text"]
        assert "Now in French." in rest[0]["text"]
        assert rest[1]["text"] == "Go on"
        assert '""' not in json.dumps(body["messages"])
        assert "lower=messages[5]" in changes(got)


async def test_r23_a_later_instruction_keeps_its_place_where_there_is_one(tmp_path: Path) -> None:
    messages = [
        user("Hi"),
        {"role": "assistant", "content": "Yes?"},
        user("So"),
        {"role": "system", "content": "In French."},
    ]
    async with (
        provider(claude_answer()) as up,
        provider(ollama_answer()) as local,
        provider(answer(chat_answer())) as gpt,
    ):
        config = anthropic(up, model="claude-opus-4-8") + ollama(local) + one(gpt.url, models='["gpt"]')
        async with gateway(config, folder=tmp_path) as gw:
            for name, seen in (("claude-opus-4-8", up), ("gpt", gpt)):
                got = await gw.chat(name, messages=messages)
                assert got.status == 200
                assert [m["role"] for m in seen.seen[0].json["messages"]] == [
                    "user",
                    "assistant",
                    "user",
                    "system",
                ]
                assert "messages" not in got.headers.get("x-modelplex-changes", "")
            got = await gw.chat("m", messages=messages)  # a chat template takes one, at the beginning
            assert got.status == 200
            later = local.seen[0].json["messages"][3]
            assert (later["role"], later["content"]) == ("user", SYSTEM_NOTE + "In French.")
            assert "lower=messages[3]" in changes(got)


@pytest.mark.parametrize("kind", ["openai", "anthropic", "ollama"])
async def test_r20_cache_markers_are_kept_translated_or_told_as_lost(kind: str, tmp_path: Path) -> None:
    mark = {"prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}}
    messages = [user({"type": "text", "text": "Long"} | mark)]
    async with provider(fine(kind)) as up, gateway(config_of(kind, up), folder=tmp_path) as gw:
        got = await gw.chat(messages=messages, prompt_cache_key="k")
        body = up.seen[0].json
        if kind == "openai":
            assert body["messages"] == messages
            assert changes(got) == set()
        elif kind == "anthropic":
            assert body["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
            assert changes(got) >= {"drop=prompt_cache_key"}
        else:
            assert "cache" not in json.dumps(body)
            assert "drop=prompt_cache_key" in changes(got)
            assert any(each.startswith("drop=messages[0].content[0]") for each in changes(got))


SCHEMA: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {"name": "n", "strict": True, "schema": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}},
}  # fmt: skip


async def test_r21_a_schema_is_native_or_a_lone_forced_tool_or_refused(tmp_path: Path) -> None:
    old, tool = "claude-opus-4-1", {"type": "tool_use", "id": "toolu_1", "name": "n", "input": {"a": "b"}}
    async with (
        provider(claude_answer()) as new,
        provider(claude_answer(tool, stop="tool_use")) as older,
        provider(ollama_answer('{"a":"b"}')) as local,
    ):
        config = anthropic(new) + anthropic(older, model=old, name="old") + ollama(local)
        async with gateway(config, folder=tmp_path) as gw:
            assert (
                await gw.chat(CLAUDE, response_format=SCHEMA, tools=[TIME], reasoning_effort="low")
            ).status == 200
            assert new.seen[0].json["output_config"]["format"]["type"] == "json_schema"
            assert "tool_choice" not in new.seen[0].json
            assert (await gw.chat(old, response_format=SCHEMA)).status == 200
            assert older.seen[0].json["tool_choice"]["type"] == "tool"
            assert len(older.seen[0].json["tools"]) == 1
            asks: list[dict[str, Any]] = [{"tools": [TIME]}, {"reasoning_effort": "low"}]
            for more in asks:
                got = await gw.chat(old, response_format=SCHEMA, **more)
                assert (got.status, got.error["param"]) == (400, "response_format")
            assert len(older.seen) == 1
            await gw.chat(response_format=SCHEMA)
            assert local.seen[0].json["format"]["required"] == ["a"]


CHOICES: list[tuple[Any, bool | None, Any, list[str]]] = [
    ("none", None, {"type": "none"}, ["time", "weather"]),
    ("auto", None, {"type": "auto"}, ["time", "weather"]),
    ("required", None, {"type": "any"}, ["time", "weather"]),
    ({"type": "function", "function": {"name": "time"}}, None, {"type": "tool", "name": "time"}, ["time", "weather"]),
    (
        {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "time"}}]}},
        None,
        {"type": "any"},
        ["time"],
    ),
    (None, False, {"type": "auto", "disable_parallel_tool_use": True}, ["time", "weather"]),
    ("required", False, {"type": "any", "disable_parallel_tool_use": True}, ["time", "weather"]),
]  # fmt: skip


@pytest.mark.parametrize(("choice", "parallel", "written", "names"), CHOICES)
async def test_r22_each_choice_has_its_form_at_anthropic(
    *, choice: Any, parallel: bool | None, written: Any, names: list[str], tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"tools": [TIME, WEATHER]}
    asked |= {} if choice is None else {"tool_choice": choice}
    asked |= {} if parallel is None else {"parallel_tool_calls": parallel}
    async with provider(claude_answer()) as up, gateway(config_of("anthropic", up), folder=tmp_path) as gw:
        got = await gw.chat(**asked)
        assert got.status == 200
        assert up.seen[0].json["tool_choice"] == written
        assert [tool["name"] for tool in up.seen[0].json["tools"]] == names
        assert ("lower=tool_choice" in changes(got)) == (len(names) == 1)


async def test_r22_what_ollama_cannot_choose_is_told(tmp_path: Path) -> None:
    async with provider(ollama_answer()) as up, gateway(ollama(up), folder=tmp_path) as gw:
        told: list[set[str]] = []
        for choice, parallel, _, _ in CHOICES:
            asked: dict[str, Any] = {
                "tools": [TIME, WEATHER],
                "tool_choice": choice,
                "parallel_tool_calls": parallel,
            }
            told.append(changes(await gw.chat(**{k: v for k, v in asked.items() if v is not None})))
        assert "tools" not in up.seen[0].json
        assert len(up.seen[4].json["tools"]) == 1
        for at in (2, 3, 4, 6):
            assert any("tool_choice" in each for each in told[at]), CHOICES[at]
        assert told[1] == set()
        for at in (5, 6):
            assert any("parallel_tool_calls" in each for each in told[at])


async def test_r32_no_address_is_fetched(tmp_path: Path) -> None:
    """The gateway never fetches what a URL in a request names: it goes to a provider that fetches,
    or it is refused.
    """
    call = {"id": "t1", "type": "function", "function": {"name": "time", "arguments": "{}"}}
    async with (
        provider(answer(b"\x89PNG", label="image/png")) as web,
        provider(ollama_answer()) as local,
        provider(claude_answer()) as claude,
    ):
        picture = {"type": "image_url", "image_url": {"url": f"{web.url}/cat.png"}}
        messages = [
            user("Hi"),
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "t1", "content": [picture]},
        ]
        async with gateway(ollama(local) + anthropic(claude), folder=tmp_path) as gw:
            got = await gw.chat(messages=messages, tools=[TIME])
            assert got.status == 400
            assert got.error["param"].startswith("messages[2].content[0]")
            assert local.seen == []
            assert (await gw.chat(CLAUDE, messages=messages, tools=[TIME])).status == 200
            source = claude.seen[0].json["messages"][2]["content"][0]["content"][0]["source"]
            assert source == {"type": "url", "url": f"{web.url}/cat.png"}
        assert web.seen == []


async def test_r35_the_output_limit_goes_under_the_one_name_that_is_read(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        ups = {
            kind: await stack.enter_async_context(provider(fine(kind)))
            for kind in ("openai", "vllm", "anthropic", "ollama")
        }
        config = one(ups["openai"].url, name="openai", models='["o"]')
        config += one(ups["vllm"].url, name="vllm", type="mistral", models='["v"]')
        config += anthropic(ups["anthropic"]) + ollama(ups["ollama"])
        gw = await stack.enter_async_context(gateway(config, folder=tmp_path))
        for model in ("o", "v", CLAUDE, "m"):
            assert (await gw.chat(model, max_completion_tokens=77)).status == 200
        names = {kind: {k: v for k, v in up.seen[0].json.items() if "max" in k} for kind, up in ups.items()}
        assert names == {
            "openai": {"max_completion_tokens": 77},
            "vllm": {"max_tokens": 77},
            "anthropic": {"max_tokens": 77},
            "ollama": {},
        }
        assert ups["ollama"].seen[0].json["options"] == {"num_predict": 77}
        await gw.chat("v", max_completion_tokens=77, max_tokens=88)
        assert {k: v for k, v in ups["vllm"].seen[1].json.items() if "max" in k} == {"max_tokens": 77}


BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 24576, "max": 32000}


async def test_r36_r44_effort_becomes_a_budget_below_the_limit(tmp_path: Path) -> None:
    async with provider(claude_answer()) as up, gateway(config_of("anthropic", up), folder=tmp_path) as gw:
        for effort, budget in BUDGETS.items():
            got = await gw.chat(reasoning_effort=effort)
            body = up.seen[-1].json
            assert body["thinking"]["budget_tokens"] == budget
            assert body["max_tokens"] > budget
            assert not any(each.startswith("clamp") for each in changes(got))
        got = await gw.chat(reasoning_effort="max", max_tokens=3000)
        assert 1024 <= up.seen[-1].json["thinking"]["budget_tokens"] < up.seen[-1].json["max_tokens"] == 3000
        assert any("reasoning_effort" in each for each in changes(got))
        await gw.chat(reasoning_effort="none")
        assert up.seen[-1].json.get("thinking", {"type": "disabled"}) == {"type": "disabled"}


async def test_r44_effort_has_its_word_everywhere(tmp_path: Path) -> None:
    words = {
        "none": False,
        "minimal": "low",
        "low": "low",
        "medium": "medium",
        "high": "high",
        "xhigh": "max",
        "max": "max",
    }
    adaptive = {
        "minimal": "low",
        "low": "low",
        "medium": "medium",
        "high": "high",
        "xhigh": "xhigh",
        "max": "max",
    }
    async with (
        provider(ollama_answer()) as local,
        provider(claude_answer()) as claude,
        provider(answer(chat_answer())) as gpt,
    ):
        config = ollama(local) + anthropic(claude, model="claude-opus-4-8") + one(gpt.url, models='["gpt-5"]')
        async with gateway(config, folder=tmp_path) as gw:
            for effort, think in words.items():
                await gw.chat(reasoning_effort=effort)
                assert local.seen[-1].json["think"] == think
                await gw.chat("gpt-5", reasoning_effort=effort)
                assert gpt.seen[-1].json["reasoning_effort"] == effort
            for effort, word in adaptive.items():
                await gw.chat("claude-opus-4-8", reasoning_effort=effort)
                body = claude.seen[-1].json
                assert (body["thinking"]["type"], body["output_config"]["effort"]) == ("adaptive", word)


async def test_r45_a_forced_choice_yields_to_thinking_and_is_told(tmp_path: Path) -> None:
    async with provider(claude_answer()) as up:
        config = config_of("anthropic", up)
        async with gateway(config, folder=tmp_path) as gw:
            got = await gw.chat(tools=[TIME], tool_choice="required", reasoning_effort="low")
            assert up.seen[0].json["tool_choice"] == {"type": "auto"}
            assert up.seen[0].json["thinking"]["type"] == "enabled"
            assert "lower=tool_choice" in changes(got)
        (tmp_path / "strict").mkdir()
        async with gateway('[server]\non_loss = "refuse"\n' + config, folder=tmp_path / "strict") as gw:
            got = await gw.chat(tools=[TIME], tool_choice="required", reasoning_effort="low")
            assert (got.status, got.error["param"], len(up.seen)) == (400, "tool_choice", 1)


@pytest.mark.parametrize("model", [CLAUDE, "claude-opus-4-8"])
async def test_r37_the_newer_version_is_sent_no_sampling_and_each_parameter_is_told(
    model: str, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"temperature": 1, "top_p": 0.9, "top_k": 5}
    async with (
        provider(claude_answer()) as up,
        gateway(anthropic(up, model=model, api_version="2026-10-21"), folder=tmp_path) as gw,
    ):
        got = await gw.chat(model, **asked)
        assert up.seen[0].headers["anthropic-version"] == "2026-10-21"
        assert not set(asked) & set(up.seen[0].json)
        assert changes(got) >= {f"drop={name}" for name in asked}


async def test_r42_r58_long_names_and_free_tools_come_back_as_they_went(tmp_path: Path) -> None:
    """R42: one alias in every request, which no client sees. R58: a free-form tool is wrapped on
    the way and unwrapped on the way back, history too.
    """
    long = "mcp__" + "filesystem_" * 8 + "read"
    tools = [{"type": "function", "function": {"name": long}}, {"type": "custom", "custom": {"name": "sql"}}]
    async with AsyncExitStack() as stack:
        up = await stack.enter_async_context(provider())
        gw = await stack.enter_async_context(gateway(config_of("anthropic", up), folder=tmp_path))
        up.scripts = [claude_answer()]
        await gw.chat(tools=tools)
        alias, free = (tool["name"] for tool in up.seen[0].json["tools"])
        assert len(alias) <= 64
        assert up.seen[0].json["tools"][1]["input_schema"]["properties"].keys() == {"input"}
        blocks = [
            {"type": "tool_use", "id": "toolu_1", "name": alias, "input": {"a": 1}},
            {"type": "tool_use", "id": "toolu_2", "name": free, "input": {"input": "SELECT 'ü'"}},
        ]
        up.scripts = [claude_answer(*blocks, stop="tool_use")]
        got = await gw.chat(tools=tools)
        assert alias.encode() not in got.body
        message = got.json["choices"][0]["message"]
        first, second = message["tool_calls"]
        assert (first["function"]["name"], json.loads(first["function"]["arguments"])) == (long, {"a": 1})
        assert (second["type"], second["custom"]) == ("custom", {"name": "sql", "input": "SELECT 'ü'"})
        results = [{"role": "tool", "tool_call_id": f"toolu_{n}", "content": "ok"} for n in (1, 2)]
        up.scripts = [claude_answer()]
        await gw.chat(tools=tools, messages=[user("Hi"), message, *results])
        assert up.seen[2].json["messages"][1]["content"] == blocks
        assert [tool["name"] for tool in up.seen[2].json["tools"]] == [alias, free]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("kind", ["anthropic", "ollama"])
async def test_r46_several_choices_are_refused_where_there_is_one(
    kind: str, *, streamed: bool, tmp_path: Path
) -> None:
    async with provider(fine(kind)) as up, gateway(config_of(kind, up), folder=tmp_path) as gw:
        got = await gw.chat(n=2, stream=streamed)
        assert (got.status, got.error["param"], up.seen) == (400, "n", [])


async def test_r43_deepseeks_reasoning_goes_back_with_its_call(tmp_path: Path) -> None:
    """Untouched where the body passes; in DeepSeek's own field where it was the hub's words."""
    call = {"id": "t1", "type": "function", "function": {"name": "time", "arguments": "{}"}}
    turn = {"role": "assistant", "content": "", "reasoning_content": "Hm.", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "t1", "content": "noon"}
    async with (
        provider(answer(chat_answer())) as up,
        gateway(THROUGH_THE_HUB + one(up.url, type="deepseek"), folder=tmp_path) as gw,
    ):
        await gw.chat(messages=[user("Hi"), turn, result], tools=[TIME])
        assert up.seen[0].json["messages"][1] == turn
        mixed = turn | {"reasoning_details": FOREIGN["reasoning_details"]}
        await gw.chat(messages=[user("Hi"), mixed, result], tools=[TIME])
        back = up.seen[1].json["messages"][1]
        assert back["reasoning_content"] == "Hm."
        assert "signature" not in json.dumps(back)


# --- losses (docs/reference/translation.md#rules) -------------------------------------------------

LOSSES: list[tuple[str, dict[str, Any], str]] = [
    ("anthropic", {"seed": 7}, "drop=seed"),
    ("anthropic", {"frequency_penalty": 0.5}, "drop=frequency_penalty"),
    ("anthropic", {"presence_penalty": 0.5}, "drop=presence_penalty"),
    ("anthropic", {"logit_bias": {"1": 1}}, "drop=logit_bias"),
    ("anthropic", {"logprobs": True}, "drop=logprobs"),
    ("anthropic", {"verbosity": "low"}, "drop=verbosity"),
    ("anthropic", {"temperature": 1.5}, "clamp=temperature"),
    ("anthropic", {"metadata": {"a": "b"}}, "drop=metadata"),
    ("anthropic", {"prompt_cache_key": "k"}, "drop=prompt_cache_key"),
    ("anthropic", {"store": True}, "drop=store"),
    ("anthropic", {"service_tier": "flex"}, "drop=service_tier"),
    ("anthropic", {"some_new_member": 1}, "drop=some_new_member"),
    ("anthropic", {"response_format": {"type": "json_object"}}, "lower=response_format"),
    ("anthropic", {"messages": [user("Hi") | {"name": "Ann"}]}, "drop=messages[0].name"),
    ("anthropic", {"tools": [TIME], "tool_choice": "required", "reasoning_effort": "low"}, "lower=tool_choice"),
    ("ollama", {"logit_bias": {"1": 1}}, "drop=logit_bias"),
    ("ollama", {"verbosity": "low"}, "drop=verbosity"),
    ("ollama", {"metadata": {"a": "b"}}, "drop=metadata"),
    ("ollama", {"user": "u"}, "drop=user"),
    ("ollama", {"store": True}, "drop=store"),
    ("ollama", {"service_tier": "flex"}, "drop=service_tier"),
    ("ollama", {"tools": [TIME], "tool_choice": "required"}, "drop=tool_choice"),
    ("ollama", {"tools": [TIME], "parallel_tool_calls": False}, "drop=parallel_tool_calls"),
    ("ollama", {"messages": [user("Hi") | {"name": "Ann"}]}, "drop=messages[0].name"),
    ("ollama", {"some_new_member": 1}, "drop=some_new_member"),
    ("mistral", {"max_completion_tokens": 9}, "rename=max_completion_tokens"),
]  # fmt: skip


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("kind", "asked", "change"), LOSSES, ids=[f"{kind}-{change}" for kind, _, change in LOSSES]
)
async def test_r60_every_loss_is_in_header_and_record_and_refused_where_the_config_says_so(
    *, kind: str, asked: dict[str, Any], change: str, streamed: bool, tmp_path: Path
) -> None:
    pieces, head = fine_stream(kind, "Fine.")
    act = stream(*pieces, head=head) if streamed else fine(kind)
    async with provider(act) as up:
        config = one(up.url, type="mistral") if kind == "mistral" else config_of(kind, up)
        async with gateway(config, folder=tmp_path) as gw:
            got = await gw.chat(stream=streamed, **asked)
            assert got.status == 200
            assert change in changes(got)
            record = await gw.record()
            assert changes(got) == {f"{c.op}={c.path}" for c in record.changes}
            assert all(c.reason for c in record.changes)
        (tmp_path / "strict").mkdir()
        async with gateway('[server]\non_loss = "refuse"\n' + config, folder=tmp_path / "strict") as gw:
            got = await gw.chat(stream=streamed, **asked)
            assert (got.status, got.error["type"]) == (400, "invalid_request_error")
            assert got.error["param"] in {c.path for c in record.changes}
            assert len(up.seen) == 1
            assert (await gw.chat(stream=streamed)).status == 200  # what loses nothing is served


@pytest.mark.parametrize("endpoint", ["completions", "embeddings"])
async def test_losses_of_completions_and_embeddings_are_told_and_refused_too(
    endpoint: str, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"model": "m", "user": "u"} | (
        {"prompt": "Hi"} if endpoint == "completions" else {"input": "Hi"}
    )
    act = answer(
        {"model": "m", "embeddings": [[0.5]], "prompt_eval_count": 1}
        if endpoint == "embeddings"
        else lines(COUNTED | {"response": "x"})[0]
    )
    async with provider(act) as up:
        async with gateway(ollama(up), folder=tmp_path) as gw:
            got = await gw.ask("POST", f"/v1/{endpoint}", asked)
            assert (got.status, changes(got)) == (200, {"drop=user"})
        (tmp_path / "strict").mkdir()
        async with gateway('[server]\non_loss = "refuse"\n' + ollama(up), folder=tmp_path / "strict") as gw:
            got = await gw.ask("POST", f"/v1/{endpoint}", asked)
            assert (got.status, got.error["param"]) == (400, "user")


async def test_a_long_list_of_changes_is_cut_in_the_header_and_whole_in_the_record(tmp_path: Path) -> None:
    odd: dict[str, Any] = {f"member_{n:03}": n for n in range(100)} | {"a,drop=seed": 1, "ü": 2}
    async with provider(claude_answer()) as up, gateway(config_of("anthropic", up), folder=tmp_path) as gw:
        got = await gw.chat(**odd)
        items = got.headers["x-modelplex-changes"].split(",")
        kept, more = items[:-1], items[-1]
        assert len(",".join(kept)) <= 1024
        record = await gw.record()
        assert more == f"more={len(record.changes) - len(kept)}"
        assert len(kept) > 40
        assert {c.path for c in record.changes} >= set(odd)
        got = await gw.chat(**{name: odd[name] for name in ("a,drop=seed", "ü")})
        assert changes(got) == {"drop=a%2Cdrop%3Dseed", "drop=%C3%BC"}


@pytest.mark.parametrize("kind", ["anthropic", "ollama"])
async def test_a_member_that_says_nothing_is_no_loss_and_state_kept_elsewhere_is_refused(
    kind: str, tmp_path: Path
) -> None:
    silent: dict[str, Any] = dict.fromkeys(
        (
            "tools",
            "tool_choice",
            "stop",
            "seed",
            "user",
            "metadata",
            "logit_bias",
            "prediction",
            "response_format",
        )
    )
    silent |= {
        "store": False,
        "n": 1,
        "logprobs": False,
        "frequency_penalty": 0,
        "service_tier": "auto",
        "tools": [],
    }
    async with (
        provider(fine(kind)) as up,
        gateway('[server]\non_loss = "refuse"\n' + config_of(kind, up), folder=tmp_path) as gw,
    ):
        got = await gw.chat(**silent)
        assert (got.status, changes(got)) == (200, set())
        got = await gw.chat(previous_response_id="resp_1")
        assert (got.status, got.error["param"], len(up.seen)) == (400, "previous_response_id", 1)


async def test_a_provider_that_would_lose_something_makes_way_for_one_that_does_not(tmp_path: Path) -> None:
    async with provider(claude_answer()) as claude, provider(answer(chat_answer())) as gpt:
        config = '[server]\non_loss = "refuse"\n' + anthropic(claude) + one(gpt.url, name="gpt")
        config += f'[aliases]\nbest = ["claude/{CLAUDE}", "gpt/m"]\n'
        async with gateway(config, folder=tmp_path) as gw:
            got = await gw.chat("best", seed=7)
            assert (got.status, got.headers["x-modelplex-provider"]) == (200, "gpt")
            assert claude.seen == []


# --- headers (docs/reference/translation.md#header-rules) -----------------------------------------

GUEST: list[tuple[bytes, bytes]] = [
    (b"content-type", b"application/json"),
    (b"authorization", b"Bearer guest-1"),
    (b"x-api-key", b"guest-2"),
    (b"x-goog-api-key", b"guest-3"),
    (b"api-key", b"guest-4"),
    (b"cookie", b"guest=5"),
    (b"x-forwarded-for", b"guest-6"),
    (b"forwarded", b"for=guest-7"),
    (b"openai-organization", b"guest-8"),
    (b"x-stainless-lang", b"guest-9"),
    (b"anthropic-beta", b"guest-10"),
    (b"te", b"guest-11"),
    (b"proxy-authorization", b"Basic guest-12"),
]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("kind", ["openai", "anthropic", "ollama"])
async def test_r39_only_our_credential_reaches_a_provider_of_any_dialect(
    kind: str, *, streamed: bool, tmp_path: Path
) -> None:
    pieces, head = fine_stream(kind, "Fine.")
    act = stream(*pieces, head=head) if streamed else fine(kind)
    async with (
        provider(act) as up,
        gateway(config_of(kind, up, api_key="sk-our-key-1234"), folder=tmp_path) as gw,
    ):
        body = {"model": "m", "messages": [user("Hi")], "stream": streamed}
        got = await gw.ask("POST", "/v1/chat/completions?key=guest-0", body, headers=GUEST)
        assert got.status == 200
        seen = up.seen[0]
        assert "guest" not in repr(seen)
        assert [n for n, v in seen.headers.items() if "sk-our-key-1234" in v] == [
            "x-api-key" if kind == "anthropic" else "authorization"
        ]
        assert not {"origin", "cookie", "connection", "te", "x-forwarded-for", "forwarded"} & set(
            seen.headers
        )
        assert seen.headers["host"] in up.url
        assert seen.headers["content-type"] == "application/json"
        assert "sk-our-key-1234" not in repr(got)


@pytest.mark.parametrize("status", [200, 429])
async def test_of_an_answers_headers_only_type_name_and_limits_come_back(status: int, tmp_path: Path) -> None:
    told = {
        "x_request_id": "up-7",
        "openai_organization": "org-ours",
        "set_cookie": "a=b",
        "server": "cloud",
        "strict_transport_security": "max-age=1",
        "x_ratelimit_remaining_tokens": "9",
        "retry_after": "3",
        "retry_after_ms": "2500",
        "x_should_retry": "false",
        "access_control_allow_origin": "*",
        "x_modelplex_provider": "a lie",
    }
    body = (
        chat_answer()
        if status == 200
        else {"error": {"message": "slow", "type": "t", "param": None, "code": "c"}}
    )
    async with (
        provider(answer(body, status=status, **told)) as up,
        gateway(one(up.url) + QUICK, folder=tmp_path) as gw,
    ):
        got = await gw.chat()
        assert got.status == status
        kept = {
            "retry-after": "3",
            "retry-after-ms": "2500",
            "x-ratelimit-remaining-tokens": "9",
            "x-should-retry": "false",
        }
        assert {name: got.headers.get(name) for name in kept} == kept
        assert got.headers["x-modelplex-upstream-request-id"] == "up-7"
        assert got.headers["x-request-id"].startswith("mpx-")
        assert got.headers["x-modelplex-provider"] == "up"
        dropped = {
            "openai-organization",
            "set-cookie",
            "strict-transport-security",
            "access-control-allow-origin",
        }
        assert not dropped & set(got.headers)
        assert got.headers.get("server") != "cloud"


@pytest.mark.parametrize("kind", ["openai", "anthropic", "ollama"])
async def test_a_stream_is_for_its_reader_alone_and_at_once(kind: str, tmp_path: Path) -> None:
    pieces, head = fine_stream(kind, "Fine.")
    async with (
        provider(stream(*pieces, head=head)) as up,
        gateway(config_of(kind, up), folder=tmp_path) as gw,
    ):
        got = await gw.chat(stream=True)
        assert got.headers["content-type"].startswith("text/event-stream")
        assert (got.headers["cache-control"], got.headers["x-accel-buffering"]) == ("no-cache", "no")


async def test_r40_a_streamed_request_passes_with_every_value_as_it_was(tmp_path: Path) -> None:
    """But for the model, and for the usage that accounting needs: beside what else was said of the
    stream.
    """
    body = (
        b'{ "zz" : [1.50, 1e400, 12345678901234567890],"stream_options" : {"include_obfuscation":false, "x":1.0},\n'
        b' "model":"up/m","stream":true,"messages":[{"role":"user","content":"\\u00fc \\/ \\ud83d\\udc4b","q":-0.0}] }'
    )
    async with provider(stream(*chat_stream("Hi"))) as up, gateway(one(up.url), folder=tmp_path) as gw:
        assert (await gw.ask("POST", "/v1/chat/completions", body)).status == 200
        members = [
            b'"zz":[1.50, 1e400, 12345678901234567890]',
            b'"stream_options":{"include_obfuscation":false,"x":1.0,"include_usage":true}',
            b'"model":"m"',
            b'"stream":true',
            b'"messages":[{"role":"user","content":"\\u00fc \\/ \\ud83d\\udc4b","q":-0.0}]',
        ]
        assert up.seen[0].body == b"{" + b",".join(members) + b"}"


# --- limits (R28, R29, R57) -----------------------------------------------------------------------


def limited(**headers: str) -> Act:
    error = {
        "error": {"message": "slow down", "type": "requests", "param": None, "code": "rate_limit_exceeded"}
    }
    return answer(error, status=429, **headers)


async def test_r28_the_headers_of_a_limit_are_forwarded_as_received(tmp_path: Path) -> None:
    for told in ("0", "1234567", "Wed, 21 Oct 2026 07:28:00 GMT", "0.5"):
        async with (
            provider(limited(retry_after=told)) as up,
            gateway(one(up.url) + QUICK, folder=tmp_path) as gw,
        ):
            got = await gw.chat()
            assert (got.status, got.headers["retry-after"]) == (429, told)


async def test_r28_after_failover_the_limits_and_the_shortest_wait_reach_the_client(tmp_path: Path) -> None:
    first = limited(retry_after_ms="1234567000", x_ratelimit_remaining_requests="0")
    second = limited(retry_after="0", x_ratelimit_remaining_requests="5")
    third = limited(retry_after="1234568")
    async with provider(first) as a, provider(second) as b, provider(third) as c:
        config = (
            one(a.url, name="a", priority=1)
            + one(b.url, name="b", priority=2)
            + one(c.url, name="c", priority=3)
        )
        async with gateway(config + QUICK, folder=tmp_path) as gw:
            got = await gw.chat()
            assert (got.status, got.headers["x-modelplex-attempts"]) == (429, "3")
            assert got.headers["retry-after"] == "1234567"
            assert "retry-after-ms" not in got.headers  # clients read it first, and it was another's
            assert got.headers["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize("kind", ["openai", "anthropic", "ollama"])
async def test_r29_a_limit_without_its_time_does_not_cool_the_account_down(kind: str, tmp_path: Path) -> None:
    acts = [limited(), limited(), fine(kind)]
    rules = "\n[failover]\nretries = 0\nbreaker_failures = 3\n"
    async with provider(*acts) as up, gateway(config_of(kind, up) + rules, folder=tmp_path) as gw:
        for _ in range(2):
            got = await gw.chat()
            assert (got.status, "retry-after" in got.headers) == (429, False)
        assert (await gw.chat()).status == 200


@pytest.mark.parametrize("told", [1e300, float("inf"), float("nan"), -5.0])
def test_r29_no_wait_that_a_provider_names_shuts_it_out_for_ever(told: float) -> None:
    circuits, attempt = Circuits(), Attempt(provider="p", model="m", dialect="openai_chat")
    error = RateLimited("slow", retry_after=told)
    circuits.failed(attempt, "agent:a", error, now=100.0, rules=BreakerRules())
    assert circuits.may_try(attempt, "agent:a", now=100.0 + MAX_WAIT)


@pytest.mark.parametrize("status", [401, 402, 403, 429])
@pytest.mark.parametrize("kind", ["openai", "anthropic", "ollama"])
async def test_r57_the_next_key_is_tried_at_a_provider_of_any_dialect(
    kind: str, status: int, tmp_path: Path
) -> None:
    async with (
        provider(answer({"error": {"message": "no"}}, status=status), fine(kind)) as up,
        gateway(config_of(kind, up, api_key=["key-one-long", "key-two-long"]), folder=tmp_path) as gw,
    ):
        got = await gw.chat()
        assert (got.status, got.headers["x-modelplex-attempts"]) == (200, "2")
        header = "x-api-key" if kind == "anthropic" else "authorization"
        assert [seen.headers[header].removeprefix("Bearer ") for seen in up.seen] == [
            "key-one-long",
            "key-two-long",
        ]


# --- silence, and the point of no return (docs/reference/translation.md#rules) --------------------


def trickle(piece: bytes, *start: bytes, head: bytes = STREAM_HEAD) -> Act:
    """A stream that begins so, and then says this every 20 ms for ever."""

    async def act(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for each in start:
            writer.write(b"%x\r\n%s\r\n" % (len(each), each))
        while True:
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(0.02)

    return act


PATIENT = "[server]\nping_interval = 0.1\n"


async def first_bytes(gw: Running, *, until: bytes) -> bytes:
    """What a stream brings until this is in it; the answer's head has come by then."""
    body = json.dumps({"model": "m", "stream": True, "messages": [user("Hi")]}).encode()
    reply = await asyncio.wait_for(gw.send("POST", "/v1/chat/completions", body), WAIT_S)
    got = b""
    async with asyncio.timeout(WAIT_S):
        while until not in got:
            got += await reply.chunk() or b""
    reply.close()
    return got


async def test_r30_silence_is_bridged_for_15_s_by_default(tmp_path: Path) -> None:
    async with provider(stall) as up, gateway(one(up.url), folder=tmp_path) as gw:
        assert gw.process.app.gateway.rules.ping_interval == 15.0


CASES: list[tuple[str, bytes, list[bytes]]] = [
    ("anthropic", PING, claude_events("Hello")[:3]),
    ("anthropic", b": still here\n\n", claude_events("Hello")[:3]),
    ("ollama", b"\n", lines(said("Hello"))),
]


@pytest.mark.parametrize(
    ("kind", "piece", "start"), CASES, ids=["anthropic's ping", "a comment", "an empty line"]
)
async def test_r30_a_caller_to_whom_nothing_goes_gets_pings_though_its_provider_speaks(
    kind: str, piece: bytes, start: list[bytes], tmp_path: Path
) -> None:
    """What a provider says that is nothing in the caller's dialect is no byte to the caller. R50: a
    comment, never data.
    """
    head = NDJSON_HEAD if kind == "ollama" else STREAM_HEAD
    async with (
        provider(trickle(piece, *start, head=head)) as up,
        gateway(PATIENT + config_of(kind, up), folder=tmp_path) as gw,
    ):
        got = await first_bytes(gw, until=b": ping\n\n")
        assert got.count(b"data: ") == 2  # the role and the text


@pytest.mark.parametrize(
    ("kind", "piece"),
    [
        ("openai", b": OPENROUTER PROCESSING\n\n"),
        ("openai", chunk({"role": "assistant", "content": ""})),
        ("anthropic", PING),
    ],
    ids=["comments", "role chunks", "pings"],
)
async def test_a_start_is_held_no_longer_than_15_s_however_much_its_provider_says(
    kind: str, piece: bytes, tmp_path: Path
) -> None:
    """Holding for that long commits: the caller gets its status, and what was held or a ping."""
    async with provider(trickle(piece)) as up, provider(fine("openai")) as other:
        config = PATIENT + config_of(kind, up, priority=1) + one(other.url, name="other", models='["x"]')
        async with gateway(config, folder=tmp_path) as gw:
            assert await first_bytes(gw, until=b": ping\n\n" if kind == "anthropic" else piece)
            assert gw.records == [] or gw.records[0].outcome == "client_closed"


async def test_a_start_that_is_held_is_no_commitment_before_that(tmp_path: Path) -> None:
    start = [chunk({"role": "assistant", "content": ""}), b": comment\n\n", chunk({}, usage=None)]
    async with provider(stream(*start, end=False)) as up, provider(stream(*chat_stream("Fine."))) as other:
        config = one(up.url, name="a", priority=1) + one(other.url, name="b", priority=2) + QUICK
        async with gateway(config, folder=tmp_path) as gw:
            got = await gw.chat(stream=True)
            assert (got.headers["x-modelplex-provider"], text_of(got)) == ("b", "Fine.")
            assert b"comment" not in got.body


async def test_holding_more_than_256_kib_commits(tmp_path: Path) -> None:
    """A preamble without end is not kept in memory; after it there is no failover any more."""
    comment = b": " + b"x" * 16_384 + b"\n\n"
    for pieces, committed in (([comment] * 15, False), ([comment] * 17, True)):
        async with (
            provider(stream(*pieces, end=False)) as up,
            provider(stream(*chat_stream("Fine."))) as other,
        ):
            config = one(up.url, name="a", priority=1) + one(other.url, name="b", priority=2) + QUICK
            async with gateway(config, folder=tmp_path) as gw:
                got = await gw.chat(stream=True)
                assert got.headers["x-modelplex-provider"] == ("a" if committed else "b")
                assert (len(other.seen) == 0) is committed
                assert (b'"error"' in got.body) is committed


@pytest.mark.parametrize(
    "output",
    [
        {"content": "x"},
        {"reasoning_content": "x"},
        {"reasoning": "x"},
        {"refusal": "x"},
        {
            "tool_calls": [
                {"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": ""}}
            ]
        },
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]},
    ],
    ids=lambda delta: next(iter(delta)),
)
async def test_the_first_output_of_any_kind_commits(output: dict[str, Any], tmp_path: Path) -> None:
    async with provider(stream(chunk(output), end=False)) as up, provider(fine("openai")) as other:
        config = one(up.url, name="a", priority=1) + one(other.url, name="b", priority=2) + QUICK
        async with gateway(config, folder=tmp_path) as gw:
            got = await gw.chat(stream=True)
            assert got.headers["x-modelplex-provider"] == "a"
            assert "error" in chunks(got)[-1]
            assert other.seen == []


# --- sealed state (R16, R17) ----------------------------------------------------------------------

SECRET = "gAAAA+sealed/by+its+maker=="
SEALED: dict[str, Any] = {
    "type": "reasoning.encrypted",
    "data": SECRET,
    "format": "openai-responses-v1",
    "id": "rs_1",
    "index": 0,
}


def two(a: Scripted, b: Scripted, **more: Any) -> str:
    """Two services of the client's own dialect that serve the same model."""
    return one(a.url, name="a", priority=1, **more) + one(b.url, name="b", priority=2) + QUICK


def sealed_turn(*, streamed: bool, delta: dict[str, Any]) -> Act:
    if not streamed:
        return answer(chat_answer("Hm.", **delta))
    return stream(
        chunk({"role": "assistant"} | delta),
        chunk({"content": "Hm."}),
        chunk({}, finish="stop", usage=USAGE),
        DONE,
    )


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("maker", ["a", "b"])
async def test_r17_state_of_a_passing_provider_returns_to_its_maker_alone(
    *, maker: str, streamed: bool, tmp_path: Path
) -> None:
    """No envelope is made where bytes pass; the gateway remembers who made what."""
    turn = {"role": "assistant", "content": "Hm.", "reasoning_details": [SEALED]}
    acts = [sealed_turn(streamed=streamed, delta={"reasoning_details": [SEALED]}), answer(chat_answer())]
    async with provider(*acts) as up, provider(answer(chat_answer())) as other:
        ups = (up, other) if maker == "a" else (other, up)
        async with gateway(two(*ups), folder=tmp_path) as gw:
            got = await gw.chat(f"{maker}/m", stream=streamed)
            assert SECRET.encode() in got.body
            before = len(other.seen)
            asked = [user("Hi"), turn, user("And?")]
            got = await gw.chat("m", messages=asked)
            assert got.headers["x-modelplex-provider"] == maker
            assert up.seen[-1].json["messages"] == asked  # byte for byte, as it passes
            up.scripts = [answer(b"busy", status=503)]
            down = await gw.chat("m", messages=asked)
            assert down.status == 503
            named = await gw.chat("b/m" if maker == "a" else "a/m", messages=asked)
            assert (named.status, named.error["code"], named.headers["x-should-retry"]) == (
                503,
                "state_pinned",
                "false",
            )
            assert len(other.seen) == before
            assert (await gw.chat("m")).status == 200  # what holds no state fails over


async def test_r17_state_is_bound_to_the_key_that_made_it(tmp_path: Path) -> None:
    acts = [
        answer(chat_answer(reasoning_details=[SEALED])),
        answer({"error": {"message": "no"}}, status=401),
        answer(chat_answer()),
    ]
    async with (
        provider(*acts) as up,
        gateway(one(up.url, api_key=["key-one-long", "key-two-long"]) + QUICK, folder=tmp_path) as gw,
    ):
        await gw.chat()
        got = await gw.chat(
            messages=[
                user("Hi"),
                {"role": "assistant", "content": "Hm.", "reasoning_details": [SEALED]},
                user("And?"),
            ]
        )
        assert (got.status, got.error["code"]) == (502, "upstream_auth")
        assert [seen.headers["authorization"] for seen in up.seen] == ["Bearer key-one-long"] * 2


async def test_r17_of_state_whose_maker_is_not_known_only_a_single_candidate_gets_any(tmp_path: Path) -> None:
    asked = [user("Hi"), {"role": "assistant", "content": "Hm.", "reasoning_details": [SEALED]}, user("And?")]
    async with (
        provider(answer(chat_answer())) as up,
        provider(answer(chat_answer())) as other,
        gateway(two(up, other), folder=tmp_path) as gw,
    ):
        got = await gw.chat(messages=asked)
        assert (got.status, got.error["code"], got.error["param"]) == (
            503,
            "state_pinned",
            "messages[1].reasoning_details[0]",
        )
        assert (up.seen, other.seen) == ([], [])
        assert (await gw.chat("b/m", messages=asked)).status == 200
        assert other.seen[0].json["messages"] == asked
        readable = [
            user("Hi"),
            {"role": "assistant", "content": "Hm.", "reasoning_content": "So."},
            user("And?"),
        ]
        assert (await gw.chat(messages=readable)).status == 200


async def test_r17_who_made_a_state_is_known_after_the_config_was_loaded_anew(tmp_path: Path) -> None:
    asked = [user("Hi"), {"role": "assistant", "content": "Hm.", "reasoning_details": [SEALED]}, user("And?")]
    async with (
        provider(answer(chat_answer(reasoning_details=[SEALED]))) as up,
        provider(answer(chat_answer())) as other,
        gateway(two(other, up), folder=tmp_path) as gw,
    ):
        await gw.chat("b/m")
        file = tmp_path / "config.toml"
        file.write_text(file.read_text().replace("backoff = 0.01", "backoff = 0.02"))
        old = gw.process.app.gateway
        await gw.process.reload()
        assert gw.process.app.gateway is not old
        got = await gw.chat(messages=asked)
        assert (got.status, got.headers["x-modelplex-provider"]) == (200, "b")
        assert other.seen == []


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("where", ["on the call", "on a part of its own"])
async def test_r16_a_signature_of_gemini_returns_on_the_same_part(
    where: str, *, streamed: bool, tmp_path: Path
) -> None:
    """Gemini's OpenAI form: `extra_content.google.thought_signature`. Its place is kept, and so is
    its maker.
    """
    signed = {"extra_content": {"google": {"thought_signature": SECRET}}}
    call = {"id": "t1", "type": "function", "function": {"name": "time", "arguments": "{}"}}
    on_call = where == "on the call"
    delta: dict[str, Any] = {"tool_calls": [call | signed if on_call else call]} | ({} if on_call else signed)
    turn = {"role": "assistant", "content": "Hm."} | delta
    if streamed:
        delta = delta | {"tool_calls": [{"index": 0} | each for each in delta["tool_calls"]]}
    first = sealed_turn(streamed=streamed, delta=delta)
    if streamed:
        first = stream(chunk({"role": "assistant"} | delta), chunk({}, finish="tool_calls"), DONE)
    async with provider(first, answer(chat_answer())) as up, provider(answer(chat_answer())) as other:
        config = one(other.url, name="a", priority=1) + one(up.url, name="b", priority=2) + QUICK
        async with gateway(config, folder=tmp_path) as gw:
            assert (await gw.chat("b/m", stream=streamed)).status == 200
            asked = [user("Hi"), turn, {"role": "tool", "tool_call_id": "t1", "content": "noon"}]
            got = await gw.chat(messages=asked, tools=[TIME])
            assert (got.status, got.headers["x-modelplex-provider"]) == (200, "b")
            assert up.seen[1].json["messages"] == asked
            assert other.seen == []


async def test_r16_a_signature_that_came_through_the_hub_goes_home_too(tmp_path: Path) -> None:
    """And where state is dropped that its provider did not make, a signature beside the text is
    dropped as well.
    """
    signed: dict[str, Any] = {"extra_content": {"google": {"thought_signature": SECRET}}}
    acts = [answer(chat_answer("Hm.", **signed)), answer(chat_answer())]
    async with (
        provider(*acts) as up,
        provider(answer(chat_answer())) as other,
        gateway(THROUGH_THE_HUB + two(up, other), folder=tmp_path) as gw,
    ):
        first = await gw.chat("a/m", messages=[user("Hi"), FOREIGN, user("And?")])
        assert SECRET.encode() not in first.body  # it is in its envelope
        turn = first.json["choices"][0]["message"]
        got = await gw.chat("a/m", messages=[user("Hi"), turn, user("And?")])
        assert up.seen[1].json["messages"][1] == {"role": "assistant", "content": "Hm."} | signed
        assert "x-modelplex-changes" not in got.headers
        for message, place in (
            (turn, "reasoning_details[0]"),
            ({"role": "assistant", "content": "Hm."} | signed, "extra_content.google.thought_signature"),
        ):
            got = await gw.chat("b/m", messages=[user("Hi"), message, user("And?")])
            assert other.seen[-1].json["messages"][1] == {"role": "assistant", "content": "Hm."}
            assert changes(got) == {f"drop=messages[1].{place}"}


async def test_r17_one_state_that_is_known_tells_where_all_of_a_conversation_was(tmp_path: Path) -> None:
    other_state = SEALED | {"data": "forgotten", "index": 1}
    async with (
        provider(answer(chat_answer(reasoning_details=[SEALED]))) as up,
        provider(answer(chat_answer())) as other,
        gateway(two(other, up), folder=tmp_path) as gw,
    ):
        await gw.chat("b/m")
        turn = {"role": "assistant", "content": "Hm.", "reasoning_details": [other_state, SEALED]}
        got = await gw.chat(messages=[user("Hi"), turn, user("And?")])
        assert (got.status, got.headers["x-modelplex-provider"]) == (200, "b")


KEPT: dict[str, dict[str, Any]] = {
    "a file": user({"type": "file", "file": {"file_id": "file-1"}}),
    "an answer's sound": {"role": "assistant", "audio": {"id": "audio_1"}},
}


@pytest.mark.parametrize("what", KEPT)
async def test_what_is_kept_at_a_provider_goes_to_no_other(what: str, tmp_path: Path) -> None:
    """State pinning: nobody can tell where a file was put, so with several candidates the caller
    has to say.
    """
    asked = [user("Hi"), KEPT[what], user("And?")]
    path = {"a file": "messages[1].content[0]", "an answer's sound": "messages[1].audio"}[what]
    async with (
        provider(answer(chat_answer())) as up,
        provider(answer(chat_answer())) as other,
        gateway(two(up, other), folder=tmp_path) as gw,
    ):
        got = await gw.chat(messages=asked)
        assert (got.status, got.error["code"], got.error["param"]) == (503, "state_pinned", path)
        assert (up.seen, other.seen) == ([], [])
        assert "provider/model" in got.error["message"]
        assert (await gw.chat("b/m", messages=asked)).status == 200
        assert other.seen[0].json["messages"] == asked


@pytest.mark.parametrize("kind", ["anthropic", "ollama"])
async def test_what_is_kept_at_another_service_is_refused_by_its_place(kind: str, tmp_path: Path) -> None:
    async with provider(fine(kind)) as up, gateway(config_of(kind, up), folder=tmp_path) as gw:
        got = await gw.chat(messages=[KEPT["a file"]])
        assert (got.status, up.seen) == (400, [])
        assert got.error["param"].startswith("messages[0].content[0]")


# --- vectors (R56) --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["float", "base64", None])
@pytest.mark.parametrize("kind", ["openai", "ollama"])
async def test_r56_vectors_keep_order_dimensions_and_values(
    kind: str, form: str | None, tmp_path: Path
) -> None:
    vectors = [[0.5, -1.25, 3.0], [2.0, 0.0, 1e-3], [0.1, 0.2, 0.3]]
    vectors = [list(struct.unpack("<3f", struct.pack("<3f", *each))) for each in vectors]
    data: list[Any] = [
        {"object": "embedding", "index": n, "embedding": each} for n, each in enumerate(vectors)
    ]
    if form == "base64":
        packed = [struct.pack("<3f", *each) for each in vectors]
        data = [
            row | {"embedding": base64.b64encode(pack).decode()}
            for row, pack in zip(data, packed, strict=True)
        ]
    passing = {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 3, "total_tokens": 3}}
    act = answer(
        {"model": "m", "embeddings": vectors, "prompt_eval_count": 3} if kind == "ollama" else passing
    )
    async with provider(act) as up, gateway(config_of(kind, up), folder=tmp_path) as gw:
        body = {"model": "m", "input": ["a", "b", "c"], "dimensions": 3} | (
            {"encoding_format": form} if form else {}
        )
        got = await gw.ask("POST", "/v1/embeddings", body)
        assert got.json == passing
        assert up.seen[0].json["dimensions"] == 3
        assert up.seen[0].json["input"] == ["a", "b", "c"]


@pytest.mark.parametrize("endpoint", ["completions", "embeddings"])
async def test_what_a_provider_does_not_have_is_a_bad_request_that_says_so(
    endpoint: str, tmp_path: Path
) -> None:
    async with provider(claude_answer()) as up, gateway(config_of("anthropic", up), folder=tmp_path) as gw:
        got = await gw.ask("POST", f"/v1/{endpoint}", {"model": "m", "prompt": "Hi", "input": "Hi"})
        assert (got.status, got.error["code"], got.error["param"]) == (
            400,
            "unsupported_by_provider",
            "model",
        )
        assert endpoint in got.error["message"]
        assert up.seen == []


async def test_a_begun_answer_is_refused_where_the_model_cannot_go_on(tmp_path: Path) -> None:
    begun = [user("Hi"), {"role": "assistant", "content": "Well,"}]
    async with (
        provider(claude_answer()) as up,
        provider(claude_answer()) as newer,
        gateway(anthropic(up) + anthropic(newer, model="claude-opus-4-8", name="new"), folder=tmp_path) as gw,
    ):
        assert (await gw.chat(CLAUDE, messages=begun)).status == 200
        assert up.seen[0].json["messages"][-1]["role"] == "assistant"
        got = await gw.chat("claude-opus-4-8", messages=begun)
        assert (got.status, got.error["param"], newer.seen) == (400, "messages[1]", [])


async def test_of_a_long_answer_no_part_is_asked_for_twice(tmp_path: Path) -> None:
    """A caller that went on with a broken stream would get one answer twice: after the first output
    there is no second attempt, whatever fails.
    """
    text = "x" * 1000
    pieces = [chunk({"content": text}) for _ in range(50)]
    async with (
        provider(stream(*pieces, end=False)) as up,
        provider(answer(chat_answer())) as other,
        gateway(two(up, other), folder=tmp_path) as gw,
    ):
        got = await gw.chat(stream=True)
        assert len(up.seen) == 1
        assert other.seen == []
        assert "error" in chunks(got)[-1]
        assert DONE not in got.body
