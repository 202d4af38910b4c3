"""Names of members and items of the Responses API that several modules use
(docs/reference/wire-formats.md#responses and
docs/reference/translation.md#caching-identity-and-tier).
"""

from __future__ import annotations

DIALECT = "openai_responses"

STATE_FORMAT = "openai-responses-v1"
"""The format of `encrypted_content` of a reasoning item
(docs/reference/wire-formats.md#openai-compatible-servers).
"""
COMPACTED = "openai-compaction-v1"
"""The format of `encrypted_content` of a compaction item: the conversation before it, which only
its provider can read.
"""
TRIGGER = "compaction_trigger"
"""The last item of a request whose response is to be a compacted conversation."""
SUMMARY = "modelplex-summary-v1"
"""The format of an envelope with a summary as text, which the gateway wrote into a `compaction`
item.
"""
OF_CALL = "call:"
"""Prefix of a call's id in the `id` of opaque state of that call (Gemini's). Calls have no member
for it, so a reasoning item has it.
"""

ENCRYPTED = "reasoning.encrypted_content"
LOGPROBS = "message.output_text.logprobs"
"""Values of `include` for what is always sent, or is requested by another member."""

STATEFUL = ("previous_response_id", "conversation", "background", "prompt")
"""Members that name what a provider stores: without them it would be another request."""

CLIENT_RUN = frozenset({"local_shell", "shell", "apply_patch", "computer", "computer_use_preview"})
"""Typed tools that the client runs. An agent that offers one needs it."""

SEARCH = "tool_search"
"""The type of the search for tools; as a function, its name."""
ADDITIONAL_TOOLS = "additional_tools"
SEARCH_CALL = "tool_search_call"
SEARCH_OUTPUT = "tool_search_output"
LOADS_TOOLS = frozenset({ADDITIONAL_TOOLS, SEARCH_OUTPUT})
"""Items of the conversation that define tools."""

INERT = frozenset(
    "web_search_call file_search_call code_interpreter_call image_generation_call "
    "mcp_list_tools mcp_call tool_search_call tool_search_output".split()
)
"""Items of earlier turns that record what a provider did, and need no result."""
