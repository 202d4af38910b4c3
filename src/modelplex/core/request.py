"""What is asked: the vocabulary that goes in.

Above it stand the wires, which read and write it, the policies and the route; below it stands
nothing. It knows no dialect's JSON, no provider and no socket. Everything is frozen: a Call is
never mutated, each Attempt writes it afresh.

Two things are told apart. An `RawRequest` is the request as it came, its body unread but for the
top level; it is all that the fast path needs, where client and provider speak the same dialect. A
`ChatRequest` is the same request understood, and is only made where a translation or a rule needs
it. A Call is rich enough for the OpenAI chat, OpenAI Responses, Anthropic Messages, Gemini and
Ollama forms; what one of them can say and another cannot stays in it, and the writer that cannot
say it names it as a `Change`.
"""

from __future__ import annotations

from typing import Literal

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


class RawRequest(msgspec.Struct, frozen=True):
    """One request as it came, before anything but its top level was read.

    `fields` holds the top-level members of a JSON body, each value unread (`msgspec.Raw`), so that
    the body can be written again with one member changed and every other value's bytes the same.
    For a multipart body it is empty. `headers` are the few that belong to the dialect (its version,
    its betas) and go on to a provider that speaks the same one. `judged`: it was read whole, and no
    member of it stands twice. `mended` is what was put right in the body before it could be read.
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


class StrippedValue(msgspec.Struct, frozen=True):
    """What policy took out of a request, or overwrote in it: a JSON pointer and the rule's name.
    Never the value.
    """

    pointer: str
    rule: str


# --- content --------------------------------------------------------------------------------------


class CacheBreakpoint(msgspec.Struct, frozen=True):
    """A cache breakpoint after the part or tool that carries it. `ttl` is as its dialect says it:
    "5m", "1h", "30m", "12h" or None.
    """

    ttl: str | None = None


class OpaqueState(msgspec.Struct, frozen=True):
    """Opaque state that only its maker can read: a thinking signature, encrypted reasoning,
    redacted thinking.

    `format` names what it is (docs/reference/wire-formats.md#openai-compatible-servers):
    "anthropic-claude-v1", "openai-responses-v1", "google-gemini-v1", or "unknown". `provider` and
    `account` say who made it; None where that cannot be known from the request. It never goes to
    anybody else.
    """

    format: str
    data: str
    provider: str | None = None
    account: str | None = None
    model: str | None = None
    id: str | None = None


class InlineData(msgspec.Struct, frozen=True):
    """Bytes in the request. `data` is base64, `media_type` as given ("image/png")."""

    media_type: str
    data: str


class UrlReference(msgspec.Struct, frozen=True):
    """An address that the provider would fetch. Always http or https; `data:` URLs are read as
    Inline.
    """

    url: str


class FileReference(msgspec.Struct, frozen=True):
    """A file kept at a provider; of use to that provider alone."""

    id: str


class PlainText(msgspec.Struct, frozen=True):
    """A document given as its text."""

    text: str


Source = InlineData | UrlReference | FileReference


class TextPart(msgspec.Struct, frozen=True):
    """Plain text. `annotations` (citations) are kept in the form of `annotations_of`, a dialect's
    name.
    """

    text: str
    cache: CacheBreakpoint | None = None
    annotations: msgspec.Raw | None = None
    annotations_of: str | None = None


class RefusalPart(msgspec.Struct, frozen=True):
    """The model's own words for not answering (an assistant part)."""

    text: str


class ImagePart(msgspec.Struct, frozen=True):
    source: Source
    detail: str | None = None
    cache: CacheBreakpoint | None = None


class AudioPart(msgspec.Struct, frozen=True):
    """Sound in the request: base64 `data` in `format` ("wav", "mp3"). An assistant's earlier answer
    is named by `id` alone.
    """

    data: str
    format: str
    id: str | None = None


class DocumentPart(msgspec.Struct, frozen=True):
    """A PDF or a text. `citations` asks for citations; `context` is told to the model but not
    cited.
    """

    source: Source | PlainText
    filename: str | None = None
    title: str | None = None
    context: str | None = None
    citations: bool = False
    cache: CacheBreakpoint | None = None


class SearchResultPart(msgspec.Struct, frozen=True):
    """A passage that the client found, with where it is from."""

    source: str
    title: str
    texts: tuple[str, ...]
    citations: bool = False
    cache: CacheBreakpoint | None = None


class ReasoningPart(msgspec.Struct, frozen=True):
    """Reasoning of an assistant turn. `text` may be empty (omitted or redacted); `redacted` means
    that only the state exists.

    `summary` is true where the text is the provider's summary of its reasoning and not the
    reasoning itself.
    """

    text: str
    state: OpaqueState | None = None
    redacted: bool = False
    summary: bool = False


class ToolCallPart(msgspec.Struct, frozen=True):
    """A call of a client's tool. `arguments` is the JSON text as the model wrote it, "{}" where it
    wrote nothing; of a free-form tool (`free`) it is plain text. `state` is a signature that must
    come back with this part (Gemini). `extra` are members of the request's own dialect
    (Anthropic's `caller`, `toolset_name`), unread.
    """

    id: str
    name: str
    arguments: str
    free: bool = False
    namespace: str | None = None
    cache: CacheBreakpoint | None = None
    state: OpaqueState | None = None
    extra: dict[str, msgspec.Raw] = {}


class ToolResultPart(msgspec.Struct, frozen=True):
    """What the client's tool gave for the call `id`. Parts are Text, Image, Document, SearchResult,
    Foreign. `extra` as in ToolCall.
    """

    id: str
    parts: tuple[Part, ...]
    is_error: bool = False
    name: str | None = None
    free: bool = False
    cache: CacheBreakpoint | None = None
    extra: dict[str, msgspec.Raw] = {}


class ForeignPart(msgspec.Struct, frozen=True):
    """A part that only its own dialect understands (hosted tools and their results). It passes
    within the dialect and is refused elsewhere.
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
    | ForeignPart
)

Role = Literal["system", "developer", "user", "assistant", "tool"]


class Message(msgspec.Struct, frozen=True):
    """One turn. Tool results are parts of a message with role "tool"; a reader makes one such
    message of each run of results.

    A reader keeps the order of the parts as the model made them: thinking before the call that it
    led to. `path` is where it stood in the client's body ("messages[3]"), for errors and changes.
    `extra` holds its members that have no place here, unread; like the Call's they ride along to
    the same dialect alone.
    """

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None
    phase: str | None = None
    id: str | None = None
    path: str = ""
    extra: dict[str, msgspec.Raw] = {}


# --- tools ----------------------------------------------------------------------------------------


class Tool(msgspec.Struct, frozen=True):
    """A function that the client runs. `parameters` is its JSON schema, unread; None where it takes
    nothing.

    `path` is where the tool stands in the client's body ("tools[0].functionDeclarations[1]"),
    `members` what its leaves are called there, where the names differ ({"cache": "cache_control"}).
    `extra` are the members that only its own dialect has, by their path from the tool, unread.
    """

    name: str
    description: str | None = None
    parameters: msgspec.Raw | None = None
    strict: bool | None = None
    cache: CacheBreakpoint | None = None
    namespace: str | None = None
    extra: dict[str, msgspec.Raw] = {}
    path: str = "tools[]"
    members: dict[str, str] = {}


class FreeformTool(msgspec.Struct, frozen=True):
    """A free-form tool: its input is text, optionally bound by a grammar (`syntax` "lark" or
    "regex"). `path`, `members` and `extra` as in Tool.
    """

    name: str
    description: str | None = None
    syntax: str | None = None
    definition: str | None = None
    namespace: str | None = None
    extra: dict[str, msgspec.Raw] = {}
    path: str = "tools[]"
    members: dict[str, str] = {}


class HostedTool(msgspec.Struct, frozen=True):
    """A tool that is not a plain function: run by the provider, or typed by its dialect. Of use
    within that dialect alone. `path` as in Tool.
    """

    dialect: str
    type: str
    raw: msgspec.Raw
    name: str | None = None
    path: str = "tools[]"


AnyTool = Tool | FreeformTool | HostedTool


class ToolChoice(msgspec.Struct, frozen=True):
    """Which tools may be called. `names` are set for "named" (exactly one) and "subset"; `required`
    tells whether a subset's call is forced.
    """

    mode: Literal["none", "auto", "required", "named", "subset"]
    names: tuple[str, ...] = ()
    required: bool = False


# --- controls -------------------------------------------------------------------------------------

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class ReasoningOptions(msgspec.Struct, frozen=True):
    """How much to think. One of `effort` and `budget` (tokens) is usually set; `mode` is
    Anthropic's word where it was given: "adaptive", "enabled", "disabled", "between_tools". `show`
    is "summarized", "omitted", "auto", "concise" or "detailed".
    """

    effort: Effort | None = None
    budget: int | None = None
    mode: str | None = None
    show: str | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    """The form of the answer: free text, any JSON, or JSON by a schema (unread)."""

    kind: Literal["text", "json", "schema"]
    schema: msgspec.Raw | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class Sampling(msgspec.Struct, frozen=True):
    """None means that the client did not say."""

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


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation's next turn, asked for. Made by a wire's `read_call`.

    `extra` holds the top-level members that have no place here, unread, by the name they had in
    `dialect`: they ride along to the same dialect, and are reported as dropped elsewhere.
    `paths` says where a leaf of this value, or a part of a message, stands in the client's body
    ("sampling.stop": "generationConfig.stopSequences"), for errors and changes; see
    `dialects.core.ledger`.
    `changes` is what was lost before a writer got the request. `old_functions`: asked in OpenAI's
    form of before tools, whose answer has `function_call`. `namespaces` are the groups that tools
    stand in, each with its description; a tool names its own by `namespace`.
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


class CompletionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A text to be continued (the old completions form). Token ids are refused by dialects that
    have none. `extra`, `paths` and `changes` as in ChatRequest.
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


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Texts to be embedded. `encoding` is how the client wants the vectors: "float" or "base64"
    (little-endian float32).
    """

    dialect: str
    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    encoding: Literal["float", "base64"] = "float"
    extra: dict[str, msgspec.Raw] = {}


# --- who to ask -----------------------------------------------------------------------------------


class ModelFacts(msgspec.Struct, frozen=True):
    """What a writer must know of the model that it writes for. The defaults are those of a model
    that nothing is known of.

    `levels` are the efforts that it takes, where its service tells them apart by model; () for all.
    """

    max_output: int = 8192
    thinking: Literal["none", "manual", "both", "adaptive"] = "manual"
    levels: tuple[Effort, ...] = ()
    can_disable_thinking: bool = True
    sampling: bool = True
    temperature_and_top_p: bool = True
    prefill: bool = True
    forced_tools: bool = True
    schema: bool = True
    later_system: bool = False


class Quirks(msgspec.Struct, frozen=True):
    """How one service differs from its dialect's reference: a row's data, never code.

    output_limit     the field that carries the output limit (OpenAI forms)
    system_role      what a leading instruction's role is called
    effort           where reasoning effort goes: "reasoning_effort", "reasoning" (an object),
                     "thinking" or "" for nowhere
    reasoning_back   the field in which an assistant's earlier reasoning is sent back:
                     "reasoning_content", "reasoning", "reasoning_details" or ""
    reasoning_back_for_tools_only  only on turns that called tools (DeepSeek)
    stream_usage     understands stream_options.include_usage
    cache_control    keeps Anthropic's cache_control on parts
    conversations    the form in which conversations are held where the client's own is not to be
                     had: the dialect's "usual" one, or "responses"
    custom_tools     knows free-form tools; where it does not, one that comes from another form is
                     written as a function with one string
    stores_chat      keeps chat completions unless a request says `store: false`; OpenAI and Azure
                     at their own addresses are known to
    refuses          top-level request fields that it answers with an error, so that they are
                     dropped and reported
    api_version      the value of anthropic-version
    """

    output_limit: str = "max_completion_tokens"
    system_role: Literal["system", "developer"] = "system"
    effort: str = "reasoning_effort"
    reasoning_back: str = ""
    reasoning_back_for_tools_only: bool = False
    stream_usage: bool = True
    cache_control: bool = False
    custom_tools: bool = False
    conversations: Literal["usual", "responses"] = "usual"
    stores_chat: bool = False
    refuses: tuple[str, ...] = ()
    api_version: str = "2023-06-01"


class Attempt(msgspec.Struct, frozen=True):
    """One try of one candidate. `number` counts from 1 over the whole Ask; `delay` is how long to
    wait before it, in seconds.

    `dialect` is what is spoken to it, `endpoint` the operation of it that serves this Ask.
    `account` stands for the key that is used: a short one-way mark, so that sealed state finds its
    way back and no key is known here.
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


# --- what became of it ----------------------------------------------------------------------------


class Change(msgspec.Struct, frozen=True):
    """Something that the target's dialect cannot say as it was said. `path` is a place in the
    client's body ("tools[0].strict").

    op: "drop", "clamp", "move", "rename", "lower" (said in weaker words) or "add".
    """

    op: Literal["drop", "clamp", "move", "rename", "lower", "add"]
    path: str
    reason: str


class ProviderRequest(msgspec.Struct, frozen=True):
    """A Call in a provider's words, and what the reader of the answer must know to undo it.

    `aliases` maps a tool name as sent to the name as asked, where they differ. `free` are the tools
    (as sent) whose text input was wrapped in an object with one string `input`. `answer_tool` is
    the tool (as sent) whose arguments are really the answer's text.
    """

    body: bytes
    changes: tuple[Change, ...] = ()
    aliases: dict[str, str] = {}
    free: frozenset[str] = frozenset()
    answer_tool: str | None = None
