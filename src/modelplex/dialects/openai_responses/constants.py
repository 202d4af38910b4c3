"""The words of OpenAI's Responses form that more than one of its files needs.

Above it stand the files of openai_responses; below it nothing. Only names, and no behaviour: which
members and items there are, and what becomes of those that say nothing outside this form
(docs/reference/wire-formats.md#responses and
docs/reference/translation.md#caching-identity-and-tier).
"""

from __future__ import annotations

DIALECT = "openai_responses"

STATE_FORMAT = "openai-responses-v1"
"""What `encrypted_content` of a reasoning item is called
(docs/reference/wire-formats.md#openai-compatible-servers).
"""
COMPACTED = "openai-compaction-v1"
"""What `encrypted_content` of a compaction item is called here: all that was said before it,
readable to its maker alone.
"""
OF_CALL = "call:"
"""Before a call's id, as the `id` of a state that belongs to that call (Gemini's): calls have no
place for it, so a reasoning item carries it.
"""

ENCRYPTED = "reasoning.encrypted_content"
LOGPROBS = "message.output_text.logprobs"
"""Values of `include` that ask for what is always given, or is asked for elsewhere too."""

STATEFUL = ("previous_response_id", "conversation", "background", "prompt")
"""Members that name what is kept at a provider: the question would be another one without them."""

CLIENT_RUN = frozenset({"local_shell", "shell", "apply_patch", "computer", "computer_use_preview"})
"""Typed tools that the client runs. An agent that offers one cannot do its work without it."""

INERT = frozenset(
    "web_search_call file_search_call code_interpreter_call image_generation_call "
    "mcp_list_tools mcp_call tool_search_call tool_search_output".split()
)
"""Items of earlier turns that record what a provider did. Nothing waits for an answer to them."""
