"""Rules of the sealed policy for the content of Gemini's requests: parts, tools, and structured
controls, in `camelCase` and in `snake_case`. `fields.py` says which member has which rule
(docs/reference/isolation-requirements.md#gemini-members).

A part and a tool have no type here: which one it is follows from its members.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from modelplex.dialects.gemini.json import snake
from modelplex.policy.bounded_tools import BoundedToolRule
from modelplex.policy.containers import ListRule, ObjectRule, UnionRule
from modelplex.policy.leaves import (
    ARGUMENTS,
    DURATION,
    ENUM,
    FLAG,
    ID,
    LANGUAGE,
    LONG_TEXT,
    MIME,
    NAME,
    NUMBER,
    OPAQUE_STATE,
    PART_METADATA,
    ROLE,
    SCHEMA,
    TEXT,
    TEXTS,
    TOOL_RESULT,
    PatternRule,
)
from modelplex.policy.path import Path
from modelplex.policy.tools import each_field, merge
from modelplex.policy.value_rules import (
    INLINE_BYTES,
    PERMITTED_MODEL,
    UNKNOWN_FIELD,
    UNKNOWN_PART,
    RefuseRule,
    StripRule,
)
from modelplex.policy.walk import ANY_VALUE, REMOVED, CustomRule, PolicyWalk, ValueRule

_FILE_NAME = re.compile(r"files/|gs://|https://generativelanguage\.googleapis\.com/")


def _both(fields: dict[str, ValueRule]) -> dict[str, ValueRule]:
    """Each member under its two spellings."""
    return {spelt: check for name, check in fields.items() for spelt in (name, snake(name))}


def _members(
    fields: dict[str, ValueRule],
    *,
    otherwise: ValueRule = UNKNOWN_FIELD,
    when_empty: Literal["keep", "drop"] = "keep",
) -> ObjectRule:
    return ObjectRule(_both(fields), default=otherwise, when_empty=when_empty)


# --- parts ----------------------------------------------------------------------------------------


def _file_uri(walk: PolicyWalk, value: Any, path: Path) -> None:
    """Of what is stored, or of what would be fetched; what is inline has a member of its own."""
    if value is not None:
        stored = isinstance(value, str) and _FILE_NAME.match(value)
        walk.refuse(path, "stored-file" if stored else "remote-url")


_NAMED: dict[str, ValueRule] = {"mimeType": MIME, "displayName": NAME}
_FILE = _members({**_NAMED, "fileUri": CustomRule(_file_uri)}, otherwise=UNKNOWN_PART)
_BLOB = _members({**_NAMED, "data": INLINE_BYTES})
_LAYERS = ListRule(ENUM)
_SPAN: dict[str, ValueRule] = each_field("startOffset endOffset", DURATION)
_RESOLUTION = UnionRule(text=ENUM, members=_members({"level": ENUM, "numTokens": NUMBER}))
_MEDIA: dict[str, ValueRule] = {
    "mediaResolution": _RESOLUTION,
    "mediaProcessing": ENUM,
    "videoMetadata": _members({**_SPAN, "fps": NUMBER, "contentLayers": _LAYERS}),
    "documentMetadata": _members({**each_field("startPage endPage", NUMBER), "contentLayers": _LAYERS}),
    "spreadsheetMetadata": _members(
        {
            "visibleCells": PatternRule(r"\$?[A-Z]{0,3}\$?[0-9]{0,7}(?::\$?[A-Z]{0,3}\$?[0-9]{0,7})?"),
            "sheetIndex": NUMBER,
            "contentLayers": _LAYERS,
        }
    ),
    "audioMetadata": _members(_SPAN),
    "speechMetadata": _members(each_field("speaker style", NAME)),
    "inlineData": _BLOB,
    "fileData": _FILE,
}
_RESULT_PART = _members({**_MEDIA, "text": TEXT}, otherwise=UNKNOWN_PART)
_RESULT = _members(
    {
        "id": ID,
        "name": NAME,
        "response": TOOL_RESULT,
        "willContinue": FLAG,
        "scheduling": ENUM,
        "parts": ListRule(_RESULT_PART),
    }
)
_PARTIAL = _members(
    {
        "jsonPath": TEXT,
        "stringValue": TEXT,
        "boolValue": FLAG,
        "numberValue": NUMBER,
        "nullValue": ENUM,
        "willContinue": FLAG,
    }
)
_CALLED = _members(
    {"id": ID, "name": NAME, "args": ARGUMENTS, "partialArgs": ListRule(_PARTIAL), "willContinue": FLAG}
)
_WORD = _members({"word": TEXT, **_SPAN})
PART = _members(
    {
        **_MEDIA,
        "text": LONG_TEXT,
        "thought": FLAG,
        "thoughtSignature": OPAQUE_STATE,
        "functionCall": _CALLED,
        "functionResponse": _RESULT,
        "executableCode": _members({"id": ID, "code": TEXT, "language": ENUM}),
        "codeExecutionResult": _members({"id": ID, "output": TEXT, "outcome": ENUM}),
        "partMetadata": PART_METADATA,
        "audioTranscription": _members(
            {
                "text": TEXT,
                "finished": FLAG,
                "languageCode": LANGUAGE,
                "speakerLabel": NAME,
                "words": ListRule(_WORD),
                **_SPAN,
            }
        ),
        "toolCall": RefuseRule("provider-history"),
        "toolResponse": RefuseRule("provider-history"),
    },
    otherwise=UNKNOWN_PART,
)
_PART = UnionRule(text=TEXT, members=PART)
CONTENT: ValueRule = UnionRule(
    text=TEXT,
    items=ListRule(_PART),
    members=_members({"role": ROLE, "parts": UnionRule(text=TEXT, items=ListRule(_PART), members=PART)}),
)
CONTENTS = UnionRule(text=TEXT, items=ListRule(CONTENT), members=CONTENT)

_RESOURCE = re.compile(r"(?:models/|publishers/[a-z]{1,32}/models/)?([A-Za-z0-9._-]{1,128})")


def _own_model(walk: PolicyWalk, value: Any, path: Path) -> None:
    """The model as a resource's name. The path of the URL says which model is asked; a name here
    must be one that the caller may use as well.
    """
    named = _RESOURCE.fullmatch(value) if isinstance(value, str) else None
    if named is not None and named[1] == walk.facts.own_model:
        return
    if named is not None:
        PERMITTED_MODEL(walk, named[1], path)
    elif value is not None:
        walk.refuse(path, "unknown-form")


MODEL = CustomRule(_own_model, PERMITTED_MODEL)

# --- tools ----------------------------------------------------------------------------------------


class _LostTool(StripRule):
    """A tool of the provider's; the tool choice speaks of functions alone, so that nobody asks for
    it by a name.
    """

    __slots__ = ()

    def __call__(self, walk: PolicyWalk, value: Any, path: Path) -> None:
        if not walk.allows(self.rule):
            walk.stripped_tools[str(path[1]) if path else ""] = self.rule
        super().__call__(walk, value, path)


_MAPS = _LostTool(
    "web-search",
    BoundedToolRule(
        "web-search", unbounded=_members({"authConfig": RefuseRule("remote-data")}, otherwise=ANY_VALUE)
    ),
)
_CREDENTIAL = RefuseRule("remote-data")


def _maps(walk: PolicyWalk, value: Any, path: Path) -> None:
    """Stripped, but not with a credential: somebody meant that."""
    for name in ("authConfig", "auth_config"):
        if isinstance(value, dict) and name in value:
            _CREDENTIAL(walk, value[name], (path, name))
    _MAPS(walk, value, path)


_DECLARED = _members(
    {
        "name": NAME,
        "description": TEXT,
        **each_field("parameters parametersJsonSchema response responseJsonSchema", SCHEMA),
        "behavior": ENUM,
    }
)
_COMPUTER = _members(
    {
        "environment": ENUM,
        "excludedPredefinedFunctions": TEXTS,
        "enablePromptInjectionDetection": FLAG,
        "disabledSafetyPolicies": ListRule(ENUM),
    }
)
_TOOL = _members(
    {
        "functionDeclarations": ListRule(_DECLARED),
        "computerUse": _COMPUTER,
        **each_field(
            "googleSearch googleSearchRetrieval enterpriseWebSearch",
            _LostTool("web-search", BoundedToolRule("web-search")),
        ),
        "urlContext": _LostTool("web-fetch", BoundedToolRule("web-fetch")),
        "codeExecution": _LostTool("code-execution"),
        "googleMaps": CustomRule(_maps, _CREDENTIAL, _MAPS),
        "mcpServers": RefuseRule("remote-mcp"),
        "retrieval": RefuseRule("remote-data"),
        "fileSearch": RefuseRule("stored-file"),
        "parallelAiSearch": RefuseRule("remote-data"),
        "exaAiSearch": RefuseRule("remote-data"),
    },
    otherwise=_LostTool("unknown-tool"),
    when_empty="drop",
)
TOOLS = UnionRule(items=ListRule(_TOOL, when_empty="drop"), members=_TOOL)


def without_tools(walk: PolicyWalk, top: Mapping[str, Any]) -> None:
    """When no tool is left, nothing chooses among them."""
    gone = any(edit.path == (None, "tools") and edit.value is REMOVED for edit in walk.edits)
    for name in ("toolConfig", "tool_config"):
        if gone and name in top:
            walk.strip((None, name), next(iter(walk.stripped_tools.values()), "unknown-tool"))


# --- controls -------------------------------------------------------------------------------------

PLAIN_VOICE = r"[A-Za-z][A-Za-z0-9_-]{0,31}"
_IS_PLAIN_VOICE = re.compile(PLAIN_VOICE).fullmatch


def _stored_voice(walk: PolicyWalk, value: Any, path: Path) -> None:
    """The voices that everybody has are plain names; one that was stored is a path."""
    if value is not None and not (isinstance(value, str) and _IS_PLAIN_VOICE(value)):
        walk.refuse(path, "stored-file")


_ANY_VOICE = CustomRule(_stored_voice)
_REPLICATED = _members(
    {
        "mimeType": MIME,
        **each_field("voiceSampleAudio consentAudio", INLINE_BYTES),
        "voiceConsentSignature": _members({"signature": OPAQUE_STATE}),
    }
)
_VOICE = _members(
    {
        "prebuiltVoiceConfig": _members({"voiceName": PatternRule(PLAIN_VOICE)}),
        "replicatedVoiceConfig": _REPLICATED,
        "voice": _ANY_VOICE,
    }
)
_SPEAKER = _members({"speaker": NAME, "voiceConfig": _VOICE})
_SPEAKERS = _members({"speakerVoiceConfigs": ListRule(_SPEAKER)})
SPEECH = UnionRule(
    text=_ANY_VOICE,
    members=_members({"languageCode": LANGUAGE, "voiceConfig": _VOICE, "multiSpeakerVoiceConfig": _SPEAKERS}),
)
WRITTEN_TO = _members({"outputUriPrefix": RefuseRule("bucket-write")}, otherwise=RefuseRule("bucket-write"))
_RATIO = PatternRule(r"[0-9]{1,4}:[0-9]{1,4}|(?=.{1,48}\Z)[A-Z]+(?:_[A-Z]+){0,7}")
_PICTURE_SIZE = PatternRule(r"[0-9]{1,5}[kKpP]?(?:x[0-9]{1,5})?|(?=.{1,48}\Z)[A-Z]+(?:_[A-Z0-9]+){0,7}")
_SHAPE = _members(
    {
        "mimeType": MIME,
        **each_field("sampleRate bitRate", NUMBER),
        "aspectRatio": _RATIO,
        **each_field("imageSize resolution", _PICTURE_SIZE),
        "duration": DURATION,
        **each_field("jsonSchema schema", SCHEMA),
        "gcsUri": RefuseRule("bucket-write"),
        "delivery": StripRule("store"),
    }
)
_FORMAT: ValueRule = _members(each_field("audio image text video", _SHAPE))
IMAGE = _members(
    {
        "aspectRatio": _RATIO,
        "imageSize": _PICTURE_SIZE,
        **each_field("personGeneration prominentPeople", ENUM),
        "outputMimeType": MIME,
        "outputCompressionQuality": NUMBER,
        "imageOutputOptions": _members({"compressionQuality": NUMBER, "mimeType": MIME}),
    }
)
_LANGUAGES = ListRule(LANGUAGE)
TRANSCRIPTION = _members(
    {
        "languageCodes": _LANGUAGES,
        "languageHints": _members({"languageCodes": _LANGUAGES}),
        "languageAuto": _members({}),
        **each_field("customVocabulary adaptationPhrases", TEXTS),
        **each_field("wordTimestamp diarization", FLAG),
        "mode": ENUM,
        "sourceText": TEXT,
    }
)
TRANSLATION = _members({"targetLanguageCode": LANGUAGE, "echoTargetLanguage": FLAG})
FORMAT = UnionRule(items=ListRule(_FORMAT), members=_FORMAT)
SAFETY = _members(each_field("category method threshold", ENUM))
_EMBED: dict[str, ValueRule] = {
    "model": MODEL,
    "taskType": ENUM,
    "title": TEXT,
    "outputDimensionality": NUMBER,
    "mimeType": MIME,
    **each_field("autoTruncate documentOcr audioTrackExtraction", FLAG),
    "content": CONTENT,
}
_EMBED_CONFIG = _members(_EMBED)
EMBED_ONE = _members(merge(_EMBED, {"embedContentConfig": _EMBED_CONFIG}))
EMBED = _members({"model": MODEL, "requests": ListRule(EMBED_ONE)})
FINISH = (without_tools,)
