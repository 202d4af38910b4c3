"""OpenAI's Responses, over HTTP and as the messages of a WebSocket
(docs/reference/isolation-requirements.md#openai-responses).

Above it stands the judge; below it the walk, and what all of OpenAI's forms share.
"""

from __future__ import annotations

from typing import Any, cast

from modelplex.dialects.openai_chat.policy import (
    ACCOUNT,
    CHOICE,
    JSON_FORMAT,
    OPENROUTER_SEARCH,
    SERVICES,
    STOP,
    STREAM_OPTIONS,
)
from modelplex.policy.bounded_tools import Bounded, BoundWords, Counted
from modelplex.policy.leaves import (
    ARGUMENTS,
    ATTRIBUTES,
    BREAKPOINT,
    EXAMPLES,
    FLAG,
    FORMAT,
    GRAMMAR,
    ID,
    KIND,
    LEVEL,
    MODEL,
    NAME,
    NUMBER,
    NUMBERS,
    PARSED,
    REASONING,
    ROLE,
    SCHEMA,
    SEALED,
    SIZE,
    TEXT,
    TEXTS,
    VARIABLES,
    EnumRule,
    PatternRule,
)
from modelplex.policy.path import Path
from modelplex.policy.tools import (
    UNKNOWN_TOOL,
    LostTool,
    ToolChoiceRule,
    all_by,
    direct_caller,
    direct_only,
    of,
    tools_of,
)
from modelplex.policy.walk import (
    OPENED,
    UNKNOWN_PART,
    CustomRule,
    Inside,
    Json,
    ListRule,
    ObjectRule,
    OverwriteRule,
    PolicyWalk,
    RefuseRule,
    StripRule,
    UnionRule,
    ValueRule,
    VariantRule,
    inline,
    inline_bytes,
    known_model,
)

# --- content --------------------------------------------------------------------------------------

_MARKS: dict[str, ValueRule] = {"type": KIND, "prompt_cache_breakpoint": BREAKPOINT}
_STORED = RefuseRule("stored-file")
_IMAGE = ObjectRule({**_MARKS, "detail": LEVEL, "image_url": inline, "file_id": _STORED})
_ANNOTATIONS = ListRule(
    VariantRule(
        {
            "url_citation": ObjectRule(
                {"type": KIND, **all_by("url title", TEXT), **all_by("start_index end_index", NUMBER)}
            ),
            **all_by("file_citation container_file_citation file_path", RefuseRule("stored-file")),
        }
    )
)
"""Links that an answer had are labels. The others name files of the provider's."""
_LIKELY: dict[str, ValueRule] = {"token": TEXT, "bytes": NUMBERS, "logprob": NUMBER}
_LOGPROBS = ListRule(ObjectRule({**_LIKELY, "top_logprobs": ListRule(ObjectRule(_LIKELY))}))
PART = VariantRule(
    {
        "input_text": ObjectRule({**_MARKS, "text": TEXT}),
        "output_text": ObjectRule(
            {**_MARKS, "text": TEXT, "annotations": _ANNOTATIONS, "logprobs": _LOGPROBS, "parsed": PARSED}
        ),
        "text": ObjectRule({**_MARKS, "text": TEXT, "annotations": _ANNOTATIONS}),
        "summary_text": ObjectRule({**_MARKS, "text": TEXT}),
        "reasoning_text": ObjectRule({**_MARKS, "text": TEXT}),
        "refusal": ObjectRule({**_MARKS, "refusal": TEXT}),
        "input_image": _IMAGE,
        "computer_screenshot": _IMAGE,
        "input_file": ObjectRule(
            {
                **_MARKS,
                "filename": NAME,
                "detail": LEVEL,
                "file_id": _STORED,
                "file_url": inline,
                "file_data": inline_bytes,
            }
        ),
        "input_audio": ObjectRule(
            {**_MARKS, "input_audio": ObjectRule({"format": FORMAT, "data": inline_bytes})}
        ),
        "encrypted_content": ObjectRule({**_MARKS, "encrypted_content": SEALED}),
    }
)
CONTENT = UnionRule(text=TEXT, items=ListRule(PART), members=PART)

# --- tools ----------------------------------------------------------------------------------------

_CLIENT: dict[str, ValueRule] = {
    "type": KIND,
    "name": NAME,
    "description": TEXT,
    "parameters": SCHEMA,
    "output_schema": SCHEMA,
    **all_by("strict async defer_loading", FLAG),
    "format": GRAMMAR,
    "input_examples": EXAMPLES,
    "allowed_callers": direct_only,
}
_CLIENT_TOOL = ObjectRule(_CLIENT)
_SKILL = ObjectRule({"name": NAME, "description": TEXT, "path": TEXT})
_LOCAL = ObjectRule({**_CLIENT, "environment": ObjectRule({"type": KIND, "skills": ListRule(_SKILL)})})
_CONTAINER = RefuseRule("code-execution")
_DATED = "_20[0-9]{2}_[0-9]{2}_[0-9]{2}"


def _environment(walk: PolicyWalk, value: Any, path: Path) -> None:
    """A shell is the client's where it says so: the environment that is meant by none is not
    stated.
    """
    environment = cast("Json", value).get("environment")
    local = isinstance(environment, dict) and cast("Json", environment).get("type") == "local"
    (_LOCAL if local else _CONTAINER)(walk, value, path)


_MASK = ObjectRule({"image_url": inline, "file_id": _STORED}, otherwise=OPENED)
_SVG = ObjectRule({"model": known_model}, otherwise=OPENED)
_DRAW = ObjectRule({"model": known_model, "svg": _SVG, "input_image_mask": _MASK}, otherwise=OPENED)
_INSIDE_CONTAINER = ObjectRule({"file_ids": _STORED, "container_id": _STORED}, otherwise=OPENED)
_INTERPRETER = ObjectRule(
    {"container": UnionRule(text=_STORED, members=_INSIDE_CONTAINER), "allowed_callers": direct_only},
    otherwise=OPENED,
)
_FOUND_BY = ObjectRule(
    {
        "type": KIND,
        "filters": ObjectRule({"allowed_domains": TEXTS}),
        "search_context_size": LEVEL,
        "external_web_access": FLAG,
        "user_location": ObjectRule({"type": LEVEL, **all_by("city country region timezone", TEXT)}),
    }
)
_SEARCH = LostTool(
    "web-search",
    Bounded(
        "web-search", BoundWords(allowed="allowed_domains", within="filters", counted=True), known=_FOUND_BY
    ),
)
_SEARCH_PREVIEW = LostTool("web-search", Bounded("web-search", BoundWords(counted=True), known=_FOUND_BY))
TOOL = VariantRule(
    {
        **all_by("function custom apply_patch local_shell", _CLIENT_TOOL),
        **all_by(
            "computer computer_use_preview computer_use",
            ObjectRule({**_CLIENT, **all_by("display_width display_height", NUMBER), "environment": LEVEL}),
        ),
        "tool_search": ObjectRule({**_CLIENT, "execution": LEVEL}),
        "shell": CustomRule(_environment, _LOCAL, _CONTAINER),
        "mcp": RefuseRule("remote-mcp"),
        "code_interpreter": RefuseRule("code-execution", _INTERPRETER),
        "file_search": RefuseRule("stored-file"),
        "image_generation": LostTool("image-generation", _DRAW),
        "programmatic_tool_calling": LostTool("code-execution"),
        "multi_agent": LostTool("provider-agents"),
        "openrouter:web_search": LostTool("provider-switch", OPENROUTER_SEARCH),
        "openrouter:web_fetch": LostTool("provider-switch", Bounded("web-fetch")),
    },
    absent=UNKNOWN_TOOL,
    otherwise=UNKNOWN_TOOL,
    families=(
        (f"web_search(?:{_DATED})?", _SEARCH),
        (f"web_search_preview(?:{_DATED})?", _SEARCH_PREVIEW),
        (r"openrouter:[a-z_-]{1,40}", LostTool("provider-switch")),
    ),
)
TOOL.kinds["namespace"] = ObjectRule(
    {
        "type": KIND,
        "name": NAME,
        "description": TEXT,
        "defer_loading": FLAG,
        "tools": ListRule(TOOL, when_empty="parent"),
    }
)

# --- items ----------------------------------------------------------------------------------------

_ITEM: dict[str, ValueRule] = {"type": KIND, "id": ID, "status": LEVEL}
_CALL: dict[str, ValueRule] = {
    **_ITEM,
    "call_id": ID,
    **all_by("name namespace created_by", NAME),
    "async": FLAG,
    "caller": direct_caller,
}


class InlineItemRule(ValueRule):
    """An item that brings its content along. One that has an id and none of `content` would be read
    from what the provider keeps for the key that all agents share.
    """

    __slots__ = ("content", "members")

    def __init__(self, fields: dict[str, ValueRule], content: str) -> None:
        self.members = ObjectRule(fields)
        self.content = tuple(content.split())

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        item = cast("Json", value)
        if item.get("id") is not None and not any(map(item.get, self.content)):
            walk.refuse(path, "stored-state")
        self.members(walk, value, path)

    def inside(self) -> Inside:
        return (("", self.members),)


class _Reasoning(InlineItemRule):
    """Thinking. Clients send back what they were given, and without its ciphertext that may be an
    id alone: it is stripped, and a summary loses its id, by which the provider would look for the
    rest.
    """

    __slots__ = ()

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        item = cast("Json", value)
        alone = item.get("id") is not None and not item.get("encrypted_content") and not item.get("content")
        if alone and not walk.open("stored-state"):
            if not item.get("summary"):
                walk.strip(path, "stored-state")
                return
            walk.strip((path, "id"), "stored-state")
        self.members(walk, value, path)


class _Told(InlineItemRule):
    """What the client tells of a call, or asks for. It may have no content, and then loses its id,
    by which the provider would look for some.
    """

    __slots__ = ()

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        item = cast("Json", value)
        alone = item.get("id") is not None and all(item.get(name) is None for name in self.content)
        if alone and not walk.open("stored-state"):
            walk.strip((path, "id"), "stored-state")
        self.members(walk, value, path)


_MESSAGE = InlineItemRule(
    {**_ITEM, "role": ROLE, "phase": LEVEL, "name": NAME, "content": CONTENT}, "content"
)
_OUTPUT = _Told({**_CALL, **all_by("is_error success", FLAG), "output": CONTENT}, "output")
_RAN = RefuseRule("provider-history")
_COMMAND = ObjectRule(
    {
        "type": LEVEL,
        **all_by("command commands", TEXTS),
        "env": VARIABLES,
        **all_by("timeout_ms max_output_length", NUMBER),
        **all_by("user working_directory", TEXT),
    }
)
_POINT = ObjectRule(all_by("x y", NUMBER))
_ACTION = ObjectRule(
    {
        "type": LEVEL,
        "button": LEVEL,
        **all_by("x y scroll_x scroll_y", NUMBER),
        "keys": TEXTS,
        "path": ListRule(_POINT),
        "text": TEXT,
    }
)
_CHECKS = ListRule(ObjectRule({"id": ID, **all_by("code message", TEXT)}))
_SHOWN = ObjectRule(
    {
        **all_by("stdout stderr", TEXT),
        "outcome": ObjectRule({"type": LEVEL, "exit_code": NUMBER}),
        "created_by": NAME,
    }
)
_SEARCHED = ObjectRule(
    {
        "type": LEVEL,
        **all_by("query url pattern", TEXT),
        "queries": TEXTS,
        "sources": ListRule(ObjectRule({"type": LEVEL, **all_by("url name title", TEXT)})),
    }
)
_FOUND = ObjectRule(
    {"attributes": ATTRIBUTES, "file_id": ID, "filename": NAME, "score": NUMBER, "text": TEXT}
)
_DRAWN: dict[str, ValueRule] = {
    **_ITEM,
    "result": inline_bytes,
    "revised_prompt": TEXT,
    "size": SIZE,
    **all_by("action background output_format quality", LEVEL),
}


def _local_environment(walk: PolicyWalk, value: Any, path: Path) -> None:
    """The environment of a shell's call: the client's, or unsaid."""
    if value is not None and not (isinstance(value, dict) and cast("Json", value).get("type") == "local"):
        walk.refuse(path, "provider-history")
    _LOCAL_ENVIRONMENT(walk, value, path)


_LOCAL_ENVIRONMENT = ObjectRule({"type": KIND, "skills": ListRule(_SKILL)})
_is_local = CustomRule(_local_environment, _LOCAL_ENVIRONMENT)
_BY_ID = RefuseRule("stored-state")


def _untyped(walk: PolicyWalk, value: Any, path: Path) -> None:
    """Without a type it is a message where it says who speaks, and else the id of
    something stored.
    """
    item = cast("Json", value)
    check: ValueRule = _MESSAGE if "role" in item else UNKNOWN_PART
    if "role" not in item and "id" in item:
        check = _BY_ID
    check(walk, value, path)


_SUMMARY = ListRule(VariantRule({"summary_text": PART.kinds["summary_text"], "text": PART.kinds["text"]}))
_SHAPE: dict[str, ValueRule] = {
    "type": KIND,
    "name": NAME,
    "description": TEXT,
    "schema": SCHEMA,
    "strict": FLAG,
}
TEXT_FORMAT = ObjectRule(
    {
        "verbosity": LEVEL,
        "format": VariantRule(
            {
                **JSON_FORMAT,
                "json_schema": ObjectRule(_SHAPE),
                "grammar": GRAMMAR,
            },
            absent=StripRule("unknown-value"),
            otherwise=StripRule("unknown-value"),
        ),
    }
)
ITEM = VariantRule(
    {
        "message": _MESSAGE,
        "reasoning": _Reasoning(
            {**_ITEM, "summary": _SUMMARY, "encrypted_content": SEALED, "content": CONTENT},
            "encrypted_content content summary",
        ),
        "compaction": InlineItemRule(
            {**_ITEM, "encrypted_content": SEALED, "created_by": NAME}, "encrypted_content"
        ),
        "compaction_summary": InlineItemRule({**_ITEM, "encrypted_content": SEALED}, "encrypted_content"),
        "compaction_trigger": _Told(_ITEM, ""),
        "configuration_update": _Told(
            {**_ITEM, "reasoning": REASONING, "text": TEXT_FORMAT}, "reasoning text"
        ),
        "function_call": InlineItemRule({**_CALL, "arguments": ARGUMENTS}, "name"),
        "custom_tool_call": InlineItemRule({**_CALL, "input": TEXT}, "name"),
        "tool_search_call": InlineItemRule(
            {**_CALL, "arguments": ARGUMENTS, "execution": LEVEL}, "arguments"
        ),
        "local_shell_call": InlineItemRule({**_CALL, "action": _COMMAND}, "action"),
        "shell_call": InlineItemRule({**_CALL, "action": _COMMAND, "environment": _is_local}, "action"),
        "apply_patch_call": InlineItemRule(
            {**_CALL, "operation": ObjectRule({"type": LEVEL, **all_by("path diff", TEXT)})}, "operation"
        ),
        "computer_call": InlineItemRule(
            {**_CALL, "action": _ACTION, "actions": ListRule(_ACTION), "pending_safety_checks": _CHECKS},
            "action actions",
        ),
        "function_call_output": _OUTPUT,
        "custom_tool_call_output": _OUTPUT,
        "local_shell_call_output": _Told({**_CALL, "output": TEXT}, "output"),
        "shell_call_output": _Told(
            {**_CALL, "output": ListRule(_SHOWN), "max_output_length": NUMBER}, "output"
        ),
        "apply_patch_call_output": _Told({**_CALL, "output": TEXT}, "output"),
        "computer_call_output": _Told(
            {**_CALL, "acknowledged_safety_checks": _CHECKS, "output": CONTENT}, "output"
        ),
        "tool_search_output": _Told({**_CALL, "execution": LEVEL, "tools": ListRule(TOOL)}, "tools"),
        "additional_tools": _Told(
            {**_ITEM, "role": ROLE, "tools": ListRule(TOOL, when_empty="parent")}, "tools"
        ),
        "web_search_call": InlineItemRule({**_ITEM, "action": _SEARCHED}, "action"),
        "file_search_call": InlineItemRule(
            {**_ITEM, "queries": TEXTS, "results": ListRule(_FOUND)}, "queries"
        ),
        "image_generation_call": InlineItemRule(_DRAWN, "result"),
        "code_interpreter_call": RefuseRule(
            "provider-history", ObjectRule({"container_id": _STORED}, otherwise=OPENED)
        ),
        "item_reference": _BY_ID,
        **all_by(
            "mcp_approval_response mcp_approval_request mcp_call mcp_list_tools program program_output "
            "agent_message multi_agent_call multi_agent_call_output",
            _RAN,
        ),
    },
    absent=CustomRule(_untyped, _MESSAGE, UNKNOWN_PART, _BY_ID),
)
ITEMS = UnionRule(text=TEXT, items=ListRule(ITEM))

# --- the top --------------------------------------------------------------------------------------

_STATE = RefuseRule("stored-state")
_VARIABLE = UnionRule(text=TEXT, members=PART)
_PROMPT = RefuseRule(
    "stored-state", ObjectRule({"variables": ObjectRule({}, otherwise=_VARIABLE)}, otherwise=OPENED)
)
_INCLUDED = EnumRule(
    "file_search_call.results web_search_call.results web_search_call.action.sources message.input_image.image_url "
    "computer_call_output.output.image_url code_interpreter_call.outputs reasoning.encrypted_content message.output_text.logprobs"
)
TOP = ObjectRule(
    of(
        SERVICES,
        ACCOUNT,
        {
            "type": EnumRule("response.create response.steer", must=True),
            "model": MODEL,
            "tool_choice": CHOICE,
            "stop": STOP,
            **all_by("parallel_tool_calls stream generate", FLAG),
            **all_by(
                "max_output_tokens max_tool_calls temperature top_p top_k min_p top_logprobs seed presence_penalty frequency_penalty",
                NUMBER,
            ),
            "stream_options": STREAM_OPTIONS,
            "reasoning": REASONING,
            "text": TEXT_FORMAT,
            "truncation": LEVEL,
            "include": ListRule(_INCLUDED),
            "context_management": ListRule(ObjectRule({"type": LEVEL, "compact_threshold": NUMBER})),
            "image": ObjectRule({"context_compression": LEVEL}),
            "stream_id": PatternRule(r"[A-Za-z0-9_-]{1,64}"),
            "input": ITEMS,
            "instructions": ITEMS,
            "tools": tools_of(TOOL),
            "store": OverwriteRule("store", value=False),
            "background": RefuseRule("background", harmless=(False,)),
            "background_options": StripRule("background"),
            "previous_response_id": _STATE,
            "conversation": _STATE,
            "prompt": _PROMPT,
            "multi_agent": StripRule("provider-agents"),
        },
    )
)
_WORDS = frozenset({"function", "custom", "shell"})
COUNT = ObjectRule(of(TOP.fields, {"store": StripRule("store")}))
"""What is only counted is not kept, and has no member to say so with."""
COUNT_FINISH = (ToolChoiceRule(TOOL, words=_WORDS),)
FINISH = (*COUNT_FINISH, Counted("max_tool_calls", "web-search"))
