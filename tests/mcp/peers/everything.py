"""A tool server with everything that the conformance suite asks for: `everything.py stdio`, or
`everything.py http PORT`.

It is built with the official Python SDK, and the suite fixes the names and most of the texts. Run
alone it passes; behind the gateway it has to pass as well.
"""

# It runs in an environment of its own, which the checkers of ours do not see.
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false, reportInvalidTypeForm=false, reportOptionalSubscript=false, reportOptionalMemberAccess=false
# ruff: noqa: BLE001, PT028

import asyncio
import base64
import json
import sys
from typing import Annotated, Any

import mcp.types as t
from mcp.server.mcpserver import Context, MCPServer, RequestStateSecurity
from mcp.server.mcpserver.prompts.base import Prompt, UserMessage
from mcp.server.streamable_http import EventMessage, EventStore
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, Field, create_model

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
SILENCE = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
STATE_KEY = b"a key of thirty-two bytes or more, for a fixture alone"
STEP_SECONDS = 0.05
AWAY_SECONDS = 0.2
"""How long a client has to come back to a stream that was closed on it."""

server = MCPServer(
    name="mcp-conformance-test-server",
    version="1.0.0",
    request_state_security=RequestStateSecurity(keys=[STATE_KEY]),
)


def said(text: str) -> t.TextContent:
    return t.TextContent(type="text", text=text)


def picture() -> t.ImageContent:
    return t.ImageContent(type="image", data=PIXEL, mime_type="image/png")


def embedded(uri: str, kind: str, text: str) -> t.EmbeddedResource:
    return t.EmbeddedResource(
        type="resource", resource=t.TextResourceContents(uri=uri, mime_type=kind, text=text)
    )


# --- answers of every kind ------------------------------------------------------------------------


@server.tool()
def test_simple_text() -> str:
    """A text, and nothing else."""
    return "This is a simple text response for testing."


@server.tool()
def test_image_content() -> list[t.ImageContent]:
    """A picture."""
    return [picture()]


@server.tool()
def test_audio_content() -> list[t.AudioContent]:
    """A sound."""
    return [t.AudioContent(type="audio", data=SILENCE, mime_type="audio/wav")]


@server.tool()
def test_embedded_resource() -> list[t.EmbeddedResource]:
    """A resource inside the answer."""
    return [
        embedded("test://embedded-resource", "text/plain", "This is an embedded resource content."),
    ]


@server.tool()
def test_multiple_content_types() -> list[t.TextContent | t.ImageContent | t.EmbeddedResource]:
    """A text, a picture and a resource."""
    data = json.dumps({"test": "data", "value": 123})
    return [
        said("Multiple content types test:"),
        picture(),
        embedded("test://mixed-content-resource", "application/json", data),
    ]


@server.tool()
def test_error_handling() -> str:
    """Fails, as a tool does."""
    raise RuntimeError("This tool intentionally returns an error for testing")


@server.tool()
def test_x_mcp_header(
    region: Annotated[
        str,
        Field(
            description="Also said in the header Mcp-Param-Region",
            json_schema_extra={"x-mcp-header": "Region"},
        ),
    ] = "none",
) -> str:
    """An argument that a header repeats."""
    return f"region={region}"


# --- while a call runs ----------------------------------------------------------------------------


@server.tool()
async def test_tool_with_logging(ctx: Context) -> str:
    """Logs three lines."""
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(line)
        await asyncio.sleep(STEP_SECONDS)
    return "Tool with logging executed successfully"


@server.tool()
async def test_tool_with_progress(ctx: Context) -> str:
    """Tells of three steps."""
    for step in (0, 50, 100):
        await ctx.report_progress(progress=step, total=100, message=f"Completed step {step} of 100")
        await asyncio.sleep(STEP_SECONDS)
    meta = ctx.request_context.meta if ctx.request_context else None
    return str(meta.get("progress_token") if meta else 0)


@server.tool()
async def test_reconnection(ctx: Context) -> str:
    """Closes its own stream and goes on."""
    await ctx.info("Before disconnect")
    await ctx.close_sse_stream()
    await asyncio.sleep(AWAY_SECONDS)
    await ctx.info("After reconnect")
    return "Reconnection test completed"


@server.tool()
async def test_logging_tool(ctx: Context) -> str:
    """Logs a line that only a client that asked for lines may see."""
    await ctx.info("A line of the log")
    return "logged"


@server.tool()
async def test_streaming_elicitation(ctx: Context) -> str | t.InputRequiredResult:
    """Needs a name, and must not ask for it by a request of its own."""
    await ctx.report_progress(progress=1, total=2)
    if "user_name" in (ctx.input_responses or {}):
        return f"Hello, {filled(ctx.input_responses['user_name'], 'name')}!"
    return wanted(user_name=form("What is your name?", name="string"))


# --- asking the client, in the older protocol -----------------------------------------------------


@server.tool()
async def test_sampling(prompt: str, ctx: Context) -> str:
    """Asks the client's model."""
    try:
        answer = await ctx.session.create_message(
            messages=[t.SamplingMessage(role="user", content=said(prompt))],
            max_tokens=100,
            related_request_id=ctx.request_id,
        )
    except Exception as error:
        return f"Sampling not supported or error: {error}"
    return f"LLM response: {answer.content.text if answer.content.type == 'text' else 'No response'}"


async def asked(ctx: Context, message: str, schema: type[BaseModel]) -> str:
    try:
        answer = await ctx.elicit(message=message, schema=schema)
    except Exception as error:
        return f"Elicitation not supported or error: {error}"
    content = answer.data.model_dump_json() if answer.action == "accept" else "{}"
    return f"action={answer.action}, content={content}"


Reply = create_model("Reply", response=(str, Field(description="User's response")))


@server.tool()
async def test_elicitation(message: str, ctx: Context) -> str:
    """Asks the user for a word."""
    return f"User response: {await asked(ctx, message, Reply)}"


STATUSES = {"enum": ["active", "inactive", "pending"]}
Defaults = create_model(
    "Defaults",
    name=(str, Field(default="John Doe", description="User name")),
    age=(int, Field(default=30, description="User age")),
    score=(float, Field(default=95.5, description="User score")),
    status=(str, Field(default="active", description="User status", json_schema_extra=STATUSES)),
    verified=(bool, Field(default=True, description="Verification status")),
)


@server.tool()
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Asks with a default for each kind of value."""
    return f"Elicitation completed: {await asked(ctx, 'Please say who you are', Defaults)}"


def titled(**titles: str) -> list[dict[str, str]]:
    return [{"const": value, "title": title} for value, title in titles.items()]


def choice(kind: type, what: str, **schema: Any) -> tuple[type, Any]:
    return (kind, Field(description=what, json_schema_extra=schema))


Choices = create_model(
    "Choices",
    untitledSingle=choice(str, "One of a few", **STATUSES),
    titledSingle=choice(
        str,
        "One of a few with titles",
        oneOf=titled(low="Low Priority", medium="Medium Priority", high="High Priority"),
    ),
    untitledMulti=choice(
        list[str], "Some of a few", items={"type": "string", "enum": ["read", "write", "execute"]}
    ),
    titledMulti=choice(
        list[str],
        "Some of a few with titles",
        items={"anyOf": titled(feature="New Feature", bug="Bug Fix", docs="Documentation")},
    ),
    legacyEnum=choice(
        str,
        "One of a few, as it was once said",
        enum=["small", "medium", "large"],
        enumNames=["Small Size", "Medium Size", "Large Size"],
    ),
)


@server.tool()
async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Asks for a choice in each of its forms."""
    return f"Elicitation completed: {await asked(ctx, 'Please choose', Choices)}"


# --- asking the client, in the newer protocol -----------------------------------------------------


def form(message: str, **properties: str) -> t.ElicitRequest:
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
    }
    return t.ElicitRequest(params=t.ElicitRequestFormParams(message=message, requested_schema=schema))


def to_model(question: str, *, tokens: int = 100) -> t.CreateMessageRequest:
    messages = [t.SamplingMessage(role="user", content=said(question))]
    return t.CreateMessageRequest(params=t.CreateMessageRequestParams(messages=messages, max_tokens=tokens))


def wanted(state: str | None = None, **requests: Any) -> t.InputRequiredResult:
    return t.InputRequiredResult(input_requests=requests, request_state=state)


def filled(answer: Any, name: str) -> str:
    """What the user wrote into this field."""
    return (
        str(answer.content.get(name, "?")) if isinstance(answer, t.ElicitResult) and answer.content else "?"
    )


@server.tool()
async def test_input_required_result_elicitation(ctx: Context) -> str | t.InputRequiredResult:
    """Needs a name."""
    given = ctx.input_responses or {}
    if "user_name" in given:
        return f"Hello, {filled(given['user_name'], 'name')}!"
    return wanted(user_name=form("What is your name?", name="string"))


@server.tool()
async def test_input_required_result_sampling(ctx: Context) -> str | t.InputRequiredResult:
    """Needs a model's word."""
    given = ctx.input_responses or {}
    if "capital_question" in given:
        answer = given["capital_question"]
        text = (
            answer.content.text
            if isinstance(answer, t.CreateMessageResult) and answer.content.type == "text"
            else "?"
        )
        return f"Model said: {text}"
    return wanted(capital_question=to_model("What is the capital of France?"))


@server.tool()
async def test_input_required_result_list_roots(ctx: Context) -> str | t.InputRequiredResult:
    """Needs the client's roots."""
    given = ctx.input_responses or {}
    if "client_roots" in given:
        answer = given["client_roots"]
        return f"Client exposed {len(answer.roots) if isinstance(answer, t.ListRootsResult) else 0} root(s)."
    return wanted(client_roots=t.ListRootsRequest())


@server.tool()
async def test_input_required_result_request_state(ctx: Context) -> str | t.InputRequiredResult:
    """Needs its own state back."""
    if "confirm" in (ctx.input_responses or {}) and ctx.request_state == "a nonce":
        return "state-ok: confirmation received"
    return wanted("a nonce", confirm=form("Please confirm", ok="boolean"))


@server.tool()
async def test_input_required_result_multiple_inputs(ctx: Context) -> str | t.InputRequiredResult:
    """Needs three things at once."""
    needed = {
        "user_name": form("What is your name?", name="string"),
        "greeting": to_model("Generate a greeting", tokens=50),
        "client_roots": t.ListRootsRequest(),
    }
    if needed.keys() <= (ctx.input_responses or {}).keys():
        return "All inputs received."
    return wanted("three at once", **needed)


@server.tool()
async def test_input_required_result_multi_round(ctx: Context) -> str | t.InputRequiredResult:
    """Needs a name, and then a colour."""
    known = json.loads(ctx.request_state) if ctx.request_state else {}
    given = ctx.input_responses or {}
    if known.get("round") == 2 and "step2" in given:
        return f"{known['name']} likes {filled(given['step2'], 'color')}."
    if known.get("round") == 1 and "step1" in given:
        state = json.dumps({"round": 2, "name": filled(given["step1"], "name")})
        return wanted(state, step2=form("Step 2: What is your favorite color?", color="string"))
    return wanted(json.dumps({"round": 1}), step1=form("Step 1: What is your name?", name="string"))


@server.tool()
async def test_input_required_result_tampered_state(ctx: Context) -> str | t.InputRequiredResult:
    """Takes no state but its own; the SDK checks the seal."""
    if ctx.request_state is None:
        return wanted("round-1", confirm=form("Please confirm", ok="boolean"))
    return f"state-ok: {ctx.request_state}"


@server.tool()
async def test_input_required_result_capabilities(ctx: Context) -> t.InputRequiredResult:
    """Asks only for what the client said it can do."""
    able = ctx.client_capabilities
    needed: dict[str, Any] = {}
    if able is None or able.sampling is not None:
        needed["sample"] = to_model("Say hello", tokens=50)
    if able is None or able.elicitation is not None:
        needed["ask"] = form("What is your name?", name="string")
    return wanted("what it can", **needed)


@server.tool()
async def test_missing_capability(ctx: Context) -> str:
    """Refuses a client without sampling."""
    able = ctx.session.client_capabilities
    if able is None or able.sampling is None:
        raise MCPError(
            code=t.MISSING_REQUIRED_CLIENT_CAPABILITY,
            message="This tool needs a client with sampling",
            data={"requiredCapabilities": {"sampling": {}}},
        )
    return "The client has sampling."


# --- lists that change ----------------------------------------------------------------------------


def passing_by() -> str:
    """Is there for a moment."""
    return "dynamic"


@server.tool()
async def test_trigger_tool_change(ctx: Context) -> str:
    """Adds a tool, takes it away, and says so."""
    server.add_tool(passing_by, name="test_dynamic_tool")
    server.remove_tool("test_dynamic_tool")
    await ctx.notify_tools_changed()
    return "tool list changed"


@server.tool()
async def test_trigger_prompt_change(ctx: Context) -> str:
    """Adds a prompt, takes it away, and says so."""
    server.add_prompt(Prompt.from_function(passing_by, name="test_dynamic_prompt", description="dynamic"))
    server.remove_prompt("test_dynamic_prompt")
    await ctx.notify_prompts_changed()
    return "prompt list changed"


SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


@server.tool()
def json_schema_2020_12_tool() -> str:
    """Has a schema with every keyword."""
    return "json_schema_2020_12_tool"


server._tool_manager._tools["json_schema_2020_12_tool"].parameters = SCHEMA  # there is no public way


# --- resources, prompts, completion ---------------------------------------------------------------


@server.resource("test://static-text")
def static_text() -> str:
    """A text."""
    return "This is the content of the static text resource."


@server.resource("test://static-binary")
def static_binary() -> bytes:
    """A picture."""
    return base64.b64decode(PIXEL)


@server.resource("test://template/{id}/data")
def from_template(id: str) -> str:
    """A text by its id."""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


@server.resource("test://watched-resource")
def watched() -> str:
    """A text that may be watched."""
    return "Watched resource content"


@server.prompt()
def test_simple_prompt() -> list[UserMessage]:
    """A prompt without arguments."""
    return [UserMessage(role="user", content=said("This is a simple prompt for testing."))]


@server.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> list[UserMessage]:
    """A prompt with two arguments."""
    return [UserMessage(role="user", content=said(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"))]


@server.prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803
    """A prompt with a resource inside."""
    inside = embedded(resourceUri, "text/plain", "Embedded resource content for testing.")
    return [
        UserMessage(role="user", content=inside),
        UserMessage(role="user", content=said("Please process the embedded resource above.")),
    ]


@server.prompt()
def test_prompt_with_image() -> list[UserMessage]:
    """A prompt with a picture."""
    return [
        UserMessage(role="user", content=picture()),
        UserMessage(role="user", content=said("Please analyze the image above.")),
    ]


@server.prompt()
async def test_input_required_result_prompt(ctx: Context) -> list[UserMessage] | t.InputRequiredResult:
    """A prompt that needs a word first."""
    given = ctx.input_responses or {}
    if "user_context" in given:
        text = f"Use the following context: {filled(given['user_context'], 'context')}"
        return [UserMessage(role="user", content=said(text))]
    return wanted(user_context=form("What context should the prompt use?", context="string"))


@server.completion()
async def complete(ref: Any, argument: Any, context: Any) -> t.Completion:
    return t.Completion(values=[], total=0, has_more=False)


async def nothing(ctx: Any, params: Any) -> t.EmptyResult:
    return t.EmptyResult()


for method, params in (
    ("logging/setLevel", t.SetLevelRequestParams),
    ("resources/subscribe", t.SubscribeRequestParams),
    ("resources/unsubscribe", t.UnsubscribeRequestParams),
):
    server._lowlevel_server.add_request_handler(method, params, nothing)  # there is no public way


class Events(EventStore):
    """What was sent, by its place: for a client that comes back."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []

    async def store_event(self, stream_id: str, message: Any) -> str:
        self.sent.append((stream_id, message))
        return str(len(self.sent))

    async def replay_events_after(self, last_event_id: str, send_callback: Any) -> str | None:
        if not last_event_id.isdigit() or not 0 < int(last_event_id) <= len(self.sent):
            return None
        place = int(last_event_id)
        stream = self.sent[place - 1][0]
        for number, (of, message) in enumerate(self.sent[place:], start=place + 1):
            if of == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", port=int(sys.argv[2]), event_store=Events(), retry_interval=100)
