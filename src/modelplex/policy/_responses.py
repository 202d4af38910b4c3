"""OpenAI's Responses, over HTTP and as the messages of a WebSocket (isolation.md 5.2).

Above it stands the judge; below it the walk, and what all of OpenAI's forms share.
"""

from __future__ import annotations

from typing import Any, cast

from modelplex.policy._chat import ACCOUNT, SERVICES
from modelplex.policy._path import Path
from modelplex.policy._tools import (
    UNKNOWN_TOOL,
    Choice,
    LostTool,
    all_by,
    direct_caller,
    direct_only,
    of,
    passing,
    tools_of,
)
from modelplex.policy._walk import (
    UNKNOWN_PART,
    Check,
    Each,
    Forms,
    Gone,
    Json,
    Kinds,
    Members,
    Never,
    Node,
    Said,
    Walk,
    inline,
    inline_bytes,
    known_model,
)

# --- content -------------------------------------------------------------------------------------------------------------------------------------------------------------------

_MARKS = passing("type prompt_cache_breakpoint")
_STORED = Never("stored-file")
_IMAGE = Members(of(_MARKS, passing("detail"), {"image_url": inline, "file_id": _STORED}))
PART = Kinds(
    {
        "input_text": Members(of(_MARKS, passing("text"))),
        "output_text": Members(of(_MARKS, passing("text annotations logprobs parsed"))),
        "text": Members(of(_MARKS, passing("text annotations"))),
        "summary_text": Members(of(_MARKS, passing("text"))),
        "reasoning_text": Members(of(_MARKS, passing("text"))),
        "refusal": Members(of(_MARKS, passing("refusal"))),
        "input_image": _IMAGE,
        "computer_screenshot": _IMAGE,
        "input_file": Members(
            of(
                _MARKS,
                passing("filename detail"),
                {"file_id": _STORED, "file_url": inline, "file_data": inline_bytes},
            )
        ),
        "input_audio": Members(
            of(_MARKS, {"input_audio": Members(of(passing("format"), {"data": inline_bytes}))})
        ),
        "encrypted_content": Members(of(_MARKS, passing("encrypted_content"))),
    }
)
CONTENT = Forms(text=None, items=Each(PART), members=PART)

# --- tools ---------------------------------------------------------------------------------------------------------------------------------------------------------------------

_CLIENT: dict[str, Node] = of(
    passing(
        "type name description parameters strict async defer_loading output_schema format input_examples"
    ),
    {"allowed_callers": direct_only},
)
_CLIENT_TOOL = Members(_CLIENT)
_LOCAL = Members(of(_CLIENT, passing("environment")))
_CONTAINER = Never("code-execution")


def _environment(walk: Walk, value: Any, path: Path) -> None:
    """A shell is the client's where it says so: the environment that is meant by none is not stated."""
    environment = cast("Json", value).get("environment")
    local = isinstance(environment, dict) and cast("Json", environment).get("type") == "local"
    (_LOCAL if local else _CONTAINER)(walk, value, path)


_MASK = Members({"image_url": inline, "file_id": _STORED}, otherwise=None)
_SVG = Members({"model": known_model}, otherwise=None)
_DRAW = Members({"model": known_model, "svg": _SVG, "input_image_mask": _MASK}, otherwise=None)
_INSIDE_CONTAINER = Members({"file_ids": _STORED, "container_id": _STORED}, otherwise=None)
_INTERPRETER = Members(
    {"container": Forms(text=_STORED, members=_INSIDE_CONTAINER), "allowed_callers": direct_only},
    otherwise=None,
)
_SEARCH = LostTool("web-search")
TOOL = Kinds(
    {
        **all_by("function custom apply_patch local_shell tool_search", _CLIENT_TOOL),
        **all_by(
            "computer computer_use_preview computer_use",
            Members(of(_CLIENT, passing("display_width display_height environment"))),
        ),
        "tool_search": Members(of(_CLIENT, passing("execution"))),
        "shell": _environment,
        **all_by(
            "web_search web_search_2025_08_26 web_search_preview web_search_preview_2025_03_11",
            _SEARCH,
        ),
        "mcp": Never("remote-mcp"),
        "code_interpreter": Never("code-execution", _INTERPRETER),
        "file_search": Never("stored-file"),
        "image_generation": LostTool("image-generation", _DRAW),
        "programmatic_tool_calling": LostTool("code-execution"),
        "multi_agent": LostTool("provider-agents"),
    },
    absent=UNKNOWN_TOOL,
    otherwise=UNKNOWN_TOOL,
    families=(("web_search", _SEARCH), ("openrouter:", LostTool("provider-switch"))),
)
TOOL.kinds["namespace"] = Members(
    of(passing("type name description defer_loading"), {"tools": Each(TOOL, when_empty="parent")})
)

# --- items ---------------------------------------------------------------------------------------------------------------------------------------------------------------------

_ITEM = passing("type id status")
_CALL: dict[str, Node] = of(
    _ITEM, passing("call_id name namespace async created_by"), {"caller": direct_caller}
)
_MESSAGE = Members(of(_ITEM, passing("role phase name"), {"content": CONTENT}))
_OUTPUT = Members(of(_CALL, passing("is_error success"), {"output": CONTENT}))
_RAN = Never("provider-history")


def _is_local(walk: Walk, value: Any, path: Path) -> None:
    """The environment of a shell's call: the client's, or unsaid."""
    if value is not None and not (isinstance(value, dict) and cast("Json", value).get("type") == "local"):
        walk.refuse(path, "provider-history")


def _untyped(walk: Walk, value: Any, path: Path) -> None:
    """Without a type it is a message where it says who speaks, and else the id of something stored."""
    item = cast("Json", value)
    check: Check = _MESSAGE if "role" in item else UNKNOWN_PART
    if "role" not in item and "id" in item:
        check = Never("stored-state")
    check(walk, value, path)


ITEM = Kinds(
    {
        "message": _MESSAGE,
        "reasoning": Members(of(_ITEM, passing("summary encrypted_content"), {"content": CONTENT})),
        "compaction": Members(of(_ITEM, passing("encrypted_content created_by"))),
        "compaction_summary": Members(of(_ITEM, passing("encrypted_content"))),
        "compaction_trigger": Members(_ITEM),
        "configuration_update": Members(of(_ITEM, passing("reasoning text"))),
        "function_call": Members(of(_CALL, passing("arguments"))),
        "custom_tool_call": Members(of(_CALL, passing("input"))),
        "tool_search_call": Members(of(_CALL, passing("arguments execution"))),
        "local_shell_call": Members(of(_CALL, passing("action"))),
        "shell_call": Members(of(_CALL, passing("action"), {"environment": _is_local})),
        "apply_patch_call": Members(of(_CALL, passing("operation"))),
        "computer_call": Members(of(_CALL, passing("action actions pending_safety_checks"))),
        "function_call_output": _OUTPUT,
        "custom_tool_call_output": _OUTPUT,
        "local_shell_call_output": Members(of(_CALL, passing("output"))),
        "shell_call_output": Members(of(_CALL, passing("output max_output_length"))),
        "apply_patch_call_output": Members(of(_CALL, passing("output"))),
        "computer_call_output": Members(
            of(
                _CALL,
                passing("acknowledged_safety_checks"),
                {"output": Forms(text=None, items=Each(PART), members=PART)},
            )
        ),
        "tool_search_output": Members(of(_CALL, passing("execution"), {"tools": Each(TOOL)})),
        "additional_tools": Members(of(_ITEM, passing("role"), {"tools": Each(TOOL, when_empty="parent")})),
        **dict.fromkeys(("web_search_call", "file_search_call", "image_generation_call")),
        "code_interpreter_call": Never(
            "provider-history", Members({"container_id": _STORED}, otherwise=None)
        ),
        "item_reference": Never("stored-state"),
        **all_by(
            "mcp_approval_response mcp_approval_request mcp_call mcp_list_tools program program_output "
            "agent_message multi_agent_call multi_agent_call_output",
            _RAN,
        ),
    },
    absent=_untyped,
)
ITEMS = Forms(text=None, items=Each(ITEM))

# --- the top -------------------------------------------------------------------------------------------------------------------------------------------------------------------

_STATE = Never("stored-state")
_EVENTS = frozenset({"response.create", "response.steer"})


def _event(walk: Walk, value: Any, path: Path) -> None:
    """A message of a WebSocket: one of the two that are bodies."""
    if not isinstance(value, str) or value not in _EVENTS:
        walk.refuse(path, "unknown-part")


_VARIABLE = Forms(text=None, members=PART)
_PROMPT = Never("stored-state", Members({"variables": Members({}, otherwise=_VARIABLE)}, otherwise=None))
TOP = Members(
    of(
        SERVICES,
        ACCOUNT,
        passing(
            "model tool_choice parallel_tool_calls max_output_tokens max_tool_calls temperature top_p top_k min_p top_logprobs seed stop "
            "presence_penalty frequency_penalty stream stream_options reasoning text truncation include context_management image "
            "generate stream_id"
        ),
        {
            "type": _event,
            "input": ITEMS,
            "instructions": ITEMS,
            "tools": tools_of(TOOL),
            "store": Said("store", value=False),
            "background": Never("background", harmless=(False,)),
            "background_options": Gone("background"),
            "previous_response_id": _STATE,
            "conversation": _STATE,
            "prompt": _PROMPT,
            "multi_agent": Gone("provider-agents"),
        },
    )
)
_WORDS = frozenset({"function", "custom", "shell"})
COUNT = Members(of(TOP.fields, {"store": Gone("store")}))
"""What is only counted is not kept, and has no member to say so with."""
FINISH = (Choice(TOOL, words=_WORDS),)
