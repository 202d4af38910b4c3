"""Anthropic's content blocks as they are sent; `messages_out` makes them. Source: the SDK's
`*_param.py`; docs/reference/wire-formats.md#messages.
"""

from __future__ import annotations

import msgspec


class CacheControlBlock(
    msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="ephemeral", gc=False
):
    ttl: str | None = None


class Citations(msgspec.Struct, frozen=True, gc=False):
    enabled: bool = True


class TextBlock(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="text", gc=False):
    text: str
    citations: msgspec.Raw | None = None
    cache_control: CacheControlBlock | None = None


class Base64Source(msgspec.Struct, frozen=True, tag_field="type", tag="base64", gc=False):
    media_type: str
    data: str


class UrlSource(msgspec.Struct, frozen=True, tag_field="type", tag="url", gc=False):
    url: str


class FileSource(msgspec.Struct, frozen=True, tag_field="type", tag="file", gc=False):
    file_id: str


class TextSource(msgspec.Struct, frozen=True, tag_field="type", tag="text", gc=False):
    media_type: str
    data: str


class ImageBlock(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="image", gc=False):
    source: Base64Source | UrlSource | FileSource
    cache_control: CacheControlBlock | None = None


class DocumentBlock(
    msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="document", gc=False
):
    source: Base64Source | UrlSource | FileSource | TextSource
    title: str | None = None
    context: str | None = None
    citations: Citations | None = None
    cache_control: CacheControlBlock | None = None


class SearchResultBlock(
    msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="search_result", gc=False
):
    source: str
    title: str
    content: list[TextBlock]
    citations: Citations | None = None
    cache_control: CacheControlBlock | None = None


class ToolReferenceBlock(
    msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="tool_reference", gc=False
):
    tool_name: str
    cache_control: CacheControlBlock | None = None


class ThinkingBlock(msgspec.Struct, frozen=True, tag_field="type", tag="thinking", gc=False):
    thinking: str
    signature: str


class RedactedBlock(msgspec.Struct, frozen=True, tag_field="type", tag="redacted_thinking", gc=False):
    data: str


class ToolUseBlock(
    msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="tool_use", gc=False
):
    id: str
    name: str
    input: msgspec.Raw
    caller: msgspec.Raw | None = None
    toolset_name: msgspec.Raw | None = None
    cache_control: CacheControlBlock | None = None


class ToolResultBlock(
    msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="tool_result", gc=False
):
    tool_use_id: str
    content: list[Block] | None = None
    is_error: bool = False
    toolset_name: msgspec.Raw | None = None
    cache_control: CacheControlBlock | None = None


Block = (
    TextBlock
    | ImageBlock
    | DocumentBlock
    | SearchResultBlock
    | ToolReferenceBlock
    | ThinkingBlock
    | RedactedBlock
    | ToolUseBlock
    | ToolResultBlock
    | msgspec.Raw
)
