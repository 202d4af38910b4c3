"""Requests: as they arrive, parsed, and as they are sent to a provider.

A RawRequest has only the top level of its body decoded, which is all that passthrough needs. A
ChatRequest is the same request parsed, for translation and for rules that read it. It holds what
any dialect can express; a writer reports as a Change what its dialect cannot. Everything is frozen:
each Attempt writes the ChatRequest anew. Imports no dialect and no provider.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

Endpoint = Literal[
    "chat/completions",
    "completions",
    "embeddings",
    "responses",
    "messages",
    "generate_content",
    "embed_content",
    "api/chat",
    "api/generate",
    "api/embed",
    "responses/input_tokens",
    "responses/compact",
    "messages/count_tokens",
    "count_tokens",
    "moderations",
    "rerank",
    "images/generations",
    "images/edits",
    "images/variations",
    "audio/speech",
    "audio/transcriptions",
    "audio/translations",
]
"""The operations that go to a provider, named by their path below the base URL of the dialect that
has them.
"""


class RawRequest(msgspec.Struct, frozen=True, gc=False):
    """One request as it arrived.

    `fields` are the top-level members of this `body`, undecoded, so that one can be changed and the
    bytes of all others stay the same; empty for a multipart body. The policy judges the body by
    them. `headers` belong to the dialect (version, betas) and go to providers of the same dialect.
    `judged`: the policy read the whole body, and no member appears twice. `mended` are corrections
    that made the body readable.
    """

    endpoint: Endpoint
    dialect: str
    model: str
    body: bytes
    fields: dict[str, msgspec.Raw]
    stream: bool = False
    include_usage: bool = False
    content_type: str = "application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    judged: bool = False
    mended: tuple[Change, ...] = ()


class StrippedValue(msgspec.Struct, frozen=True, gc=False):
    """What the policy stripped or overwrote in a request: a JSON pointer and the name of the rule,
    never the value.
    """

    pointer: str
    rule: str


# --- content --------------------------------------------------------------------------------------

COMMON_NAMES: Final = MappingProxyType({"cache": "cache_control"})
"""What clients call a member of a part, where the dialect's reader does not say."""
NO_MEMBERS: Final[Mapping[str, msgspec.Raw]] = MappingProxyType({})
"""Shared by all parts without unread members; `{}` as a default would be a new dict for each."""


class Place(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Where a part stands in the client's body. `str` gives the path: "messages[3].content[0]".

    A reader makes one for each part, so it must be cheap: the path is put together only when it is
    reported. `members` maps a member of the part to what the client calls it, where the names
    differ; a name that begins with "/" is a member of `parent`, and "" is the place itself.

    All places compare equal, so that parts compare by content: msgspec cannot exclude a field.
    """

    parent: str | Place = ""
    step: str = ""
    index: int = -1
    members: Mapping[str, str] = COMMON_NAMES

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place)

    def __hash__(self) -> int:
        return 0

    def __str__(self) -> str:
        path = f"{self.parent}{self.step}"
        return path if self.index < 0 else f"{path}[{self.index}]"

    def member(self, name: str) -> str:
        """The path of a member of the part; `name` is ours ("cache", "detail")."""
        member = self.members.get(name, name)
        if member.startswith("/"):
            return f"{self.parent}.{member[1:]}"
        return f"{self}.{member}" if member else str(self)


NOWHERE: Final = Place()


class BasePart(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A part. `at` is its place in the client's body. `extra` are members without a field here,
    undecoded, by their names or paths in the client's part; they go to the same dialect only.
    """

    at: Place = NOWHERE
    extra: Mapping[str, msgspec.Raw] = NO_MEMBERS


class CacheBreakpoint(msgspec.Struct, frozen=True, gc=False):
    """A cache breakpoint after the part or tool that has it. `ttl` is the dialect's own: "5m",
    "1h", "30m", "12h" or None.
    """

    ttl: str | None = None


class OpaqueState(msgspec.Struct, frozen=True, gc=False):
    """Opaque state that only the provider that made it can read: a thinking signature, encrypted
    reasoning, redacted thinking.

    `format` is "anthropic-claude-v1", "openai-responses-v1", "google-gemini-v1" or "unknown"
    (docs/reference/wire-formats.md#openai-compatible-servers). `provider` and `account` made it;
    None where the request does not tell. It goes to no other.
    """

    format: str
    data: str
    provider: str | None = None
    account: str | None = None
    model: str | None = None
    id: str | None = None


class InlineData(msgspec.Struct, frozen=True, gc=False):
    """Bytes in the request. `data` is base64, `media_type` as given ("image/png")."""

    media_type: str
    data: str


class UrlReference(msgspec.Struct, frozen=True, gc=False):
    """A URL that the provider fetches: http or https. `data:` URLs are read as InlineData."""

    url: str


class FileReference(msgspec.Struct, frozen=True, gc=False):
    """A file stored at a provider, which no other provider can read."""

    id: str


class PlainText(msgspec.Struct, frozen=True, gc=False):
    """A document as text."""

    text: str


Source = InlineData | UrlReference | FileReference


class TextPart(BasePart, frozen=True):
    """Plain text. `annotations` (citations) are in the form of the dialect `annotations_of`."""

    text: str
    cache: CacheBreakpoint | None = None
    annotations: msgspec.Raw | None = None
    annotations_of: str | None = None


class RefusalPart(BasePart, frozen=True):
    """The text of a refusal (an assistant part)."""

    text: str


class ImagePart(BasePart, frozen=True):
    source: Source
    detail: str | None = None
    cache: CacheBreakpoint | None = None


class AudioPart(BasePart, frozen=True):
    """Audio: base64 `data` in `format` ("wav", "mp3"). Earlier audio of the assistant has an `id`
    alone.
    """

    data: str
    format: str
    id: str | None = None


class DocumentPart(BasePart, frozen=True):
    """A PDF or a text. `citations` requests citations; `context` is for the model and is not
    cited.
    """

    source: Source | PlainText
    filename: str | None = None
    title: str | None = None
    context: str | None = None
    citations: bool = False
    cache: CacheBreakpoint | None = None


class SearchResultPart(BasePart, frozen=True):
    """A text that the client found, with its source."""

    source: str
    title: str
    texts: tuple[str, ...]
    citations: bool = False
    cache: CacheBreakpoint | None = None


class ReasoningPart(BasePart, frozen=True):
    """Reasoning of an assistant turn. `text` may be empty. `redacted`: there is opaque state only.
    `summary`: the text is the provider's summary of the reasoning.
    """

    text: str
    state: OpaqueState | None = None
    redacted: bool = False
    summary: bool = False


class ToolCallPart(BasePart, frozen=True):
    """A call of a client's tool. `arguments` is the JSON text as the model wrote it, "{}" where it
    wrote nothing; of a free-form tool (`free`) it is plain text. `state` is a signature that must
    come back with this part (Gemini).
    """

    id: str
    name: str
    arguments: str
    free: bool = False
    namespace: str | None = None
    cache: CacheBreakpoint | None = None
    state: OpaqueState | None = None


class ToolResultPart(BasePart, frozen=True):
    """The result of the call `id`. Parts are text, images, documents, search results, references to
    tools and foreign parts.
    """

    id: str
    parts: tuple[Part, ...]
    is_error: bool = False
    name: str | None = None
    free: bool = False
    cache: CacheBreakpoint | None = None


class ToolReferencePart(BasePart, frozen=True):
    """A tool that a result loads: the model may call it from here on (a part of ToolResultPart).
    The tool `name` is in the request's `tools`.
    """

    name: str
    cache: CacheBreakpoint | None = None


class ForeignPart(BasePart, frozen=True):
    """A part that only its own dialect has (hosted tools and their results). It passes within the
    dialect; other dialects refuse it.
    """

    dialect: str
    type: str
    raw: msgspec.Raw


Part = (
    TextPart
    | RefusalPart
    | ImagePart
    | AudioPart
    | DocumentPart
    | SearchResultPart
    | ReasoningPart
    | ToolCallPart
    | ToolResultPart
    | ToolReferencePart
    | ForeignPart
)

Role = Literal["system", "developer", "user", "assistant", "tool"]


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message. Tool results are parts of a message with role "tool": one message for each run
    of results.

    Parts are in the order in which the model made them: reasoning before the call that it led to.
    `path` is its place in the client's body ("messages[3]"), for errors and changes; `places` has
    the places of members that are not below `path`, since some readers join messages. `extra` are
    members without a field here, undecoded; they go to the same dialect only.
    """

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None
    phase: str | None = None
    id: str | None = None
    path: str = ""
    extra: Mapping[str, msgspec.Raw] = NO_MEMBERS
    places: dict[str, str] = {}

    def member(self, name: str) -> str:
        """The path of a member of the message ("name", "phase", a name in `extra`)."""
        return self.places.get(name, f"{self.path}.{name}")


# --- tools ----------------------------------------------------------------------------------------


class Tool(msgspec.Struct, frozen=True, gc=False):
    """A function that the client runs. `parameters` is its JSON schema, undecoded; None where it
    takes no arguments.

    `deferred`: the model sees it only after a ToolReferencePart names it. `loaded`: an item of the
    conversation defines it, not the client's list of tools.

    `path` is its place in the client's body ("tools[0].functionDeclarations[1]"), `members` the
    names of its leaves there, where they differ ({"cache": "cache_control"}). `extra` are members
    that only its own dialect has, by their path from the tool, undecoded.
    """

    name: str
    description: str | None = None
    parameters: msgspec.Raw | None = None
    strict: bool | None = None
    cache: CacheBreakpoint | None = None
    namespace: str | None = None
    deferred: bool = False
    loaded: bool = False
    extra: dict[str, msgspec.Raw] = {}
    path: str = "tools[]"
    members: dict[str, str] = {}


class FreeformTool(msgspec.Struct, frozen=True, gc=False):
    """A free-form tool: its input is text, optionally constrained by a grammar (`syntax` "lark" or
    "regex"). The other members are as in Tool.
    """

    name: str
    description: str | None = None
    syntax: str | None = None
    definition: str | None = None
    namespace: str | None = None
    deferred: bool = False
    loaded: bool = False
    extra: dict[str, msgspec.Raw] = {}
    path: str = "tools[]"
    members: dict[str, str] = {}


class HostedTool(msgspec.Struct, frozen=True, gc=False):
    """A tool that is not a plain function: the provider runs it, or its dialect defines it. Other
    dialects cannot use it. `path` and `loaded` as in Tool.
    """

    dialect: str
    type: str
    raw: msgspec.Raw
    name: str | None = None
    loaded: bool = False
    path: str = "tools[]"


AnyTool = Tool | FreeformTool | HostedTool


class ToolChoice(msgspec.Struct, frozen=True, gc=False):
    """Which tools may be called. `names` are set for "named" (exactly one) and "subset";
    `required`: a call of the subset is forced.
    """

    mode: Literal["none", "auto", "required", "named", "subset"]
    names: tuple[str, ...] = ()
    required: bool = False


# --- controls -------------------------------------------------------------------------------------

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class ReasoningOptions(msgspec.Struct, frozen=True, gc=False):
    """How much to reason. One of `effort` and `budget` (tokens) is usually set. `mode` is
    Anthropic's: "adaptive", "enabled", "disabled", "between_tools". `show` is "summarized",
    "omitted", "auto", "concise" or "detailed".
    """

    effort: Effort | None = None
    budget: int | None = None
    mode: str | None = None
    show: str | None = None


class ResponseFormat(msgspec.Struct, frozen=True, gc=False):
    """The form of the response: text, any JSON, or JSON by a schema, which is not decoded."""

    kind: Literal["text", "json", "schema"]
    schema: msgspec.Raw | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class Sampling(msgspec.Struct, frozen=True, gc=False):
    """None: the client did not set it."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: msgspec.Raw | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    n: int = 1
    stop: tuple[str, ...] = ()


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A parsed request for the next turn of a conversation.

    `extra` are top-level members without a field here, undecoded, by their names in `dialect`: they
    go to the same dialect, and are reported as dropped elsewhere. `paths` has the places of leaves
    of this value, and of parts of messages, in the client's body ("sampling.stop":
    "generationConfig.stopSequences"), for errors and changes; see `dialects.core.ledger`. `changes`
    were made before a writer gets the request. `old_functions`: the request is in OpenAI's form
    before tools, whose response has `function_call`. `namespaces` are the groups of tools, with
    their descriptions; a tool has the name of its group in `namespace`.
    """

    dialect: str
    model: str
    messages: tuple[Message, ...]
    tools: tuple[AnyTool, ...] = ()
    namespaces: dict[str, str] = {}
    choice: ToolChoice | None = None
    parallel: bool | None = None
    max_tokens: int | None = None
    sampling: Sampling = Sampling()
    format: ResponseFormat | None = None
    verbosity: str | None = None
    reasoning: ReasoningOptions | None = None
    cache: CacheBreakpoint | None = None
    cache_key: str | None = None
    user: str | None = None
    old_functions: bool = False
    metadata: msgspec.Raw | None = None
    tier: str | None = None
    stream: bool = False
    include_usage: bool = False
    extra: dict[str, msgspec.Raw] = {}
    paths: dict[str, str] = {}
    changes: tuple[Change, ...] = ()


class CompletionRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A text to continue (legacy completions). Dialects without token ids refuse them. `extra`,
    `paths` and `changes` as in ChatRequest.
    """

    dialect: str
    model: str
    prompts: tuple[str | tuple[int, ...], ...]
    suffix: str | None = None
    echo: bool = False
    max_tokens: int | None = None
    sampling: Sampling = Sampling()
    stream: bool = False
    include_usage: bool = False
    extra: dict[str, msgspec.Raw] = {}
    paths: dict[str, str] = {}
    changes: tuple[Change, ...] = ()


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Texts to embed. `encoding` of the vectors for the client: "float" or "base64" (little-endian
    float32).
    """

    dialect: str
    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    encoding: Literal["float", "base64"] = "float"
    extra: dict[str, msgspec.Raw] = {}


# --- attempts -------------------------------------------------------------------------------------


class ModelFacts(msgspec.Struct, frozen=True, gc=False):
    """Facts about a model that a request writer needs. The defaults are for an unknown model.

    `levels` are the efforts that it accepts, where they differ by model at its service; () for all.
    `thinks_between_tools`: its least thinking is between tools, where it cannot be disabled.
    `effort_without_thinking` is the highest effort that it takes with no or the least thinking.
    `schema_with_tools`: it takes a schema of its answer beside functions. `deferred_tools`: its
    service loads a tool when a result or an item of the conversation names it. `needs_responses`:
    with tools and an effort it answers at /responses alone.
    """

    max_output: int = 8192
    thinking: Literal["none", "manual", "both", "adaptive"] = "manual"
    levels: tuple[Effort, ...] = ()
    can_disable_thinking: bool = True
    thinks_between_tools: bool = False
    effort_without_thinking: Effort = "max"
    sampling: bool = True
    temperature_and_top_p: bool = True
    prefill: bool = True
    forced_tools: bool = True
    schema: bool = True
    schema_with_tools: bool = True
    later_system: bool = False
    deferred_tools: bool = False
    needs_responses: bool = False


class Quirks(msgspec.Struct, frozen=True, gc=False):
    """How a service differs from its dialect's reference, as data.

    output_limit     the field that carries the output limit (OpenAI forms)
    system_role      the role of leading instructions
    system_messages  where it takes system messages: "anywhere", or one, "first", or "nowhere":
                     they begin the first user message
    roles            of messages in a row: "any", or user and assistant "alternate"
    message_names    accepts `name` on messages
    one_choice       refuses `n` above 1
    developer_role   knows the role `developer`; `system` is sent in its place elsewhere
    effort           the field of reasoning effort: "reasoning_effort", "reasoning" (an object),
                     "thinking" or "" for none
    reasoning_back   the field of an assistant's earlier reasoning:
                     "reasoning_content", "reasoning", "reasoning_details" or ""
    reasoning_back_for_tools_only  only on turns that called tools (DeepSeek)
    stream_usage     accepts stream_options.include_usage
    cache_control    accepts Anthropic's cache_control on parts
    cache_breakpoints  its newest models accept OpenAI's prompt_cache_breakpoint on parts
    conversations    the endpoint of conversations where it does not have the client's: the
                     dialect's "usual" one, or "responses"
    custom_tools     accepts free-form tools; otherwise a free-form tool of another dialect is
                     written as a function with one string
    stores_chat      stores chat completions unless a request has `store: false`, as OpenAI and
                     Azure at their own addresses do
    call_ids         the ids of calls that it takes: "any", or "nine" letters and digits
    compacts         takes a `compaction_trigger` at the end of a conversation, and gives one item
                     `compaction`
    loads_tools      loads tools in the course of a conversation, for the models of whose facts
                     that is one
    refuses          top-level request fields that it answers with an error; they are dropped and
                     reported
    tokens           the server in whose way it returns token ids (token_members.py), if any
    api_version      the value of anthropic-version
    """

    output_limit: str = "max_completion_tokens"
    system_role: Literal["system", "developer"] = "system"
    system_messages: Literal["anywhere", "first", "nowhere"] = "anywhere"
    roles: Literal["any", "alternate"] = "any"
    message_names: bool = True
    one_choice: bool = False
    developer_role: bool = False
    effort: str = "reasoning_effort"
    reasoning_back: str = ""
    reasoning_back_for_tools_only: bool = False
    stream_usage: bool = True
    cache_control: bool = False
    cache_breakpoints: bool = False
    custom_tools: bool = False
    conversations: Literal["usual", "responses"] = "usual"
    stores_chat: bool = False
    call_ids: Literal["any", "nine"] = "any"
    compacts: bool = False
    loads_tools: bool = False
    refuses: tuple[str, ...] = ()
    tokens: Literal["none", "vllm", "sglang", "llamacpp"] = "none"
    api_version: str = "2023-06-01"


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """One attempt at one candidate. `number` counts from 1 over the whole request; `delay` is the
    seconds to wait before it.

    `dialect` and `endpoint` are the provider's for this request. `account` is a short one-way hash
    of the key, so that opaque state goes back to the account that made it. `otel_name` is that of
    the provider's type.
    """

    provider: str
    model: str
    dialect: str
    endpoint: Endpoint = "chat/completions"
    number: int = 1
    key: int = 0
    account: str = ""
    delay: float = 0.0
    quirks: Quirks = Quirks()
    facts: ModelFacts = ModelFacts()
    otel_name: str = ""


# --- written requests -----------------------------------------------------------------------------


class Change(msgspec.Struct, frozen=True, gc=False):
    """Something that the provider's dialect cannot express as the client wrote it. `path` is a
    place in the client's body ("tools[0].strict").

    op: "drop", "clamp", "move", "rename", "lower" (expressed in a weaker form) or "add".
    """

    op: Literal["drop", "clamp", "move", "rename", "lower", "add"]
    path: str
    reason: str


class ProviderRequest(msgspec.Struct, frozen=True, gc=False):
    """A request body for a provider, and what the reader of the response needs to undo.

    `aliases` maps tool names as sent to the client's names, where they differ. `free` are the tools
    (as sent) whose text input was wrapped in an object with one string `input`. `answer_tool` is
    the tool (as sent) whose arguments are the text of the response.
    """

    body: bytes
    changes: tuple[Change, ...] = ()
    aliases: dict[str, str] = {}
    free: frozenset[str] = frozenset()
    answer_tool: str | None = None
