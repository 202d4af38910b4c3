"""Gemini's conversations, counts and vectors, in `camelCase` and in `snake_case` (isolation.md 5.5).

Above it stands the judge; below it the walk. A part and a tool have no type here: their members are what they are.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from modelplex.policy._path import Path
from modelplex.policy._tools import all_by, of, passing
from modelplex.policy._walk import (
    GONE,
    UNKNOWN_FIELD,
    UNKNOWN_PART,
    Check,
    Each,
    Forms,
    Gone,
    Json,
    Members,
    Never,
    Node,
    Said,
    Unless,
    Walk,
    inline_bytes,
)

_HUMP = re.compile(r"(?<!^)([A-Z])")
_FILE_NAME = re.compile(r"files/|gs://|https://generativelanguage\.googleapis\.com/")


def _both(fields: dict[str, Node]) -> dict[str, Node]:
    """Each member under its two spellings."""
    return {
        spelt: check for name, check in fields.items() for spelt in (name, _HUMP.sub(r"_\1", name).lower())
    }


def _members(
    fields: dict[str, Node], *, otherwise: Node = UNKNOWN_FIELD, when_empty: Literal["keep", "drop"] = "keep"
) -> Members:
    return Members(_both(fields), otherwise=otherwise, when_empty=when_empty)


# --- parts ---------------------------------------------------------------------------------------------------------------------------------------------------------------------


def _file_uri(walk: Walk, value: Any, path: Path) -> None:
    """Of what is stored, or of what would be fetched; what is inline has a member of its own."""
    if value is not None:
        stored = isinstance(value, str) and _FILE_NAME.match(value)
        walk.refuse(path, "stored-file" if stored else "remote-url")


_FILE = _members(of(passing("mimeType displayName"), {"fileUri": _file_uri}), otherwise=UNKNOWN_PART)
_BLOB = _members(of(passing("mimeType displayName"), {"data": inline_bytes}))
_MEDIA: dict[str, Node] = of(
    passing(
        "mediaResolution mediaProcessing videoMetadata documentMetadata spreadsheetMetadata audioMetadata speechMetadata"
    ),
    {"inlineData": _BLOB, "fileData": _FILE},
)
_RESULT_PART = _members(of(_MEDIA, passing("text")), otherwise=UNKNOWN_PART)
_RESULT = _members(of(passing("id name response willContinue scheduling"), {"parts": Each(_RESULT_PART)}))
PART = _members(
    of(
        _MEDIA,
        passing(
            "text thought thoughtSignature functionCall executableCode codeExecutionResult partMetadata audioTranscription"
        ),
        {
            "functionResponse": _RESULT,
            "toolCall": Never("provider-history"),
            "toolResponse": Never("provider-history"),
        },
    ),
    otherwise=UNKNOWN_PART,
)
_PART: Check = Forms(text=None, members=PART)
_CONTENT: Check = Forms(
    text=None,
    items=Each(_PART),
    members=_members(of(passing("role"), {"parts": Forms(text=None, items=Each(_PART), members=PART)})),
)
_CONTENTS = Forms(text=None, items=Each(_CONTENT), members=_CONTENT)

# --- tools ---------------------------------------------------------------------------------------------------------------------------------------------------------------------


class _LostTool(Gone):
    """A tool of the provider's; the tool choice speaks of functions alone, so that nobody asks for it by a name."""

    def __call__(self, walk: Walk, value: Any, path: Path) -> None:
        if not walk.open(self.rule):
            walk.lost[str(path[1]) if path else ""] = self.rule
        super().__call__(walk, value, path)


_MAPS = _members({"authConfig": Never("remote-data")}, otherwise=None)


def _maps(walk: Walk, value: Any, path: Path) -> None:
    """Stripped, but not with a credential: somebody meant that."""
    if isinstance(value, dict):
        _MAPS(walk, value, path)
    _LostTool("web-search")(walk, value, path)


_TOOL = _members(
    {
        **passing("functionDeclarations computerUse"),
        **all_by("googleSearch googleSearchRetrieval enterpriseWebSearch", _LostTool("web-search")),
        "urlContext": _LostTool("web-fetch"),
        "codeExecution": _LostTool("code-execution"),
        "googleMaps": _maps,
        "mcpServers": Never("remote-mcp"),
        "retrieval": Never("remote-data"),
        "fileSearch": Never("stored-file"),
        "parallelAiSearch": Never("remote-data"),
        "exaAiSearch": Never("remote-data"),
    },
    otherwise=_LostTool("unknown-tool"),
    when_empty="drop",
)
_TOOLS = Forms(items=Each(_TOOL, when_empty="drop"), members=_TOOL)
_TOOL_CONFIG = _members(
    {
        "functionCallingConfig": None,
        "retrievalConfig": Gone("web-search"),
        "includeServerSideToolInvocations": Unless(False, Gone("provider-history")),
    }
)


def without_tools(walk: Walk, top: Json) -> None:
    """When no tool is left, nothing chooses among them."""
    gone = any(edit.path == (None, "tools") and edit.value is GONE for edit in walk.edits)
    for name in ("toolConfig", "tool_config"):
        if gone and name in top:
            walk.strip((None, name), next(iter(walk.lost.values()), "unknown-tool"))


# --- the top -------------------------------------------------------------------------------------------------------------------------------------------------------------------


def _stored_voice(walk: Walk, value: Any, path: Path) -> None:
    """The voices that everybody has are plain names; one that was stored is a path."""
    if isinstance(value, str) and "/" not in value:
        return
    if value is not None:
        walk.refuse(path, "stored-file")


_VOICE = _members(of(passing("prebuiltVoiceConfig replicatedVoiceConfig"), {"voice": _stored_voice}))
_SPEAKER = _members(of(passing("speaker"), {"voiceConfig": _VOICE}))
_SPEAKERS = _members({"speakerVoiceConfigs": Each(_SPEAKER)})
_SPEECH = Forms(
    text=_stored_voice,
    members=_members(
        of(passing("languageCode"), {"voiceConfig": _VOICE, "multiSpeakerVoiceConfig": _SPEAKERS})
    ),
)
_WRITTEN_TO = _members({"outputUriPrefix": Never("bucket-write")}, otherwise=Never("bucket-write"))
_SHAPE = _members(
    of(
        passing("mimeType sampleRate bitRate aspectRatio imageSize duration resolution jsonSchema schema"),
        {"gcsUri": Never("bucket-write"), "delivery": Gone("store")},
    )
)
_FORMAT: Check = _members({"audio": _SHAPE, "image": _SHAPE, "text": None, "video": _SHAPE})
_CHOICES = all_by("routingConfig modelSelectionConfig modelConfig", Gone("second-model"))
_GENERATION = _members(
    of(
        passing(
            "temperature topP topK candidateCount maxOutputTokens stopSequences responseMimeType responseSchema "
            "responseJsonSchema presencePenalty frequencyPenalty seed responseLogprobs logprobs responseModalities "
            "mediaResolution audioTimestamp thinkingConfig imageConfig enableEnhancedCivicAnswers enableAffectiveDialog "
            "translationConfig audioTranscriptionConfig"
        ),
        {
            "speechConfig": _SPEECH,
            "responseFormat": Forms(items=Each(_FORMAT), members=_FORMAT),
            "generationOutputConfig": _WRITTEN_TO,
            "serviceTier": Gone("price"),
        },
        _CHOICES,
    )
)
_TOP: dict[str, Node] = of(
    passing("model safetySettings"),
    {
        "contents": _CONTENTS,
        "systemInstruction": _CONTENT,
        "tools": _TOOLS,
        "toolConfig": _TOOL_CONFIG,
        "generationConfig": _GENERATION,
        "store": Said("store", value=False),
        "labels": Gone("labels"),
        "modelArmorConfig": Gone("provider-switch"),
        "serviceTier": Gone("price"),
        "cachedContent": Never("stored-state"),
        "continuationToken": Never("stored-state"),
        "generationOutputConfig": _WRITTEN_TO,
    },
    _CHOICES,
)
TOP = _members(_TOP)
COUNT = _members(of(_TOP, {"generateContentRequest": TOP}))
_EMBED: dict[str, Node] = of(
    passing(
        "model taskType title outputDimensionality mimeType autoTruncate documentOcr audioTrackExtraction"
    ),
    {"content": _CONTENT},
)
_EMBED_CONFIG = _members(_EMBED)
EMBED_ONE = _members(of(_EMBED, {"embedContentConfig": _EMBED_CONFIG}))
EMBED = _members({"model": None, "requests": Each(EMBED_ONE)})
FINISH = (without_tools,)
