"""The members of a generateContent request, one row each, in both spellings."""

from __future__ import annotations

from modelplex.dialects.core.fields import Field, FieldTable, rules_of, texts, unread
from modelplex.dialects.gemini import policy
from modelplex.dialects.gemini.json import camel, snake
from modelplex.policy.containers import ListRule, ObjectRule
from modelplex.policy.leaves import ENUM, FLAG, MIME, NUMBER, SCHEMA, TEXTS
from modelplex.policy.value_rules import ExceptRule, OverwriteRule, RefuseRule, StripRule


def _object(rows: tuple[Field, ...]) -> ObjectRule:
    return ObjectRule(rules_of(rows, snake))


_CHOICES = unread("routingConfig modelSelectionConfig modelConfig", StripRule("second-model"))
_THINKING = (
    Field("thinkingLevel", ENUM, "reasoning.effort"),
    Field("thinkingBudget", NUMBER, "reasoning.budget"),
    Field(
        "includeThoughts",
        FLAG,
        "reasoning.show",
        bool,
        lambda shown: "summarized" if shown else "omitted",
        writes=False,
    ),
)
_CONFIG: tuple[Field, ...] = (
    Field("maxOutputTokens", NUMBER, "max_tokens", int),
    Field("temperature", NUMBER, "sampling.temperature", float),
    Field("topP", NUMBER, "sampling.top_p", float),
    Field("topK", NUMBER, "sampling.top_k", float, int),
    Field("seed", NUMBER, "sampling.seed", int),
    Field("presencePenalty", NUMBER, "sampling.presence_penalty", float),
    Field("frequencyPenalty", NUMBER, "sampling.frequency_penalty", float),
    Field("responseLogprobs", FLAG, "sampling.logprobs", bool),
    Field("logprobs", NUMBER, "sampling.top_logprobs", int),
    Field("candidateCount", NUMBER, "sampling.n", int, lambda count: count or None),
    Field("stopSequences", TEXTS, "sampling.stop", list[str], texts),
    Field("responseMimeType", MIME, "format.kind"),
    Field("responseJsonSchema", SCHEMA, "format.schema"),
    Field("responseSchema", SCHEMA, "format.schema"),
    Field("thinkingConfig", _object(_THINKING), "reasoning", inside=_THINKING),
    *unread("audioTimestamp enableEnhancedCivicAnswers enableAffectiveDialog", FLAG),
    Field("responseModalities", ListRule(ENUM)),
    Field("mediaResolution", ENUM),
    Field("imageConfig", policy.IMAGE),
    Field("translationConfig", policy.TRANSLATION),
    Field("audioTranscriptionConfig", policy.TRANSCRIPTION),
    Field("speechConfig", policy.SPEECH),
    Field("responseFormat", policy.FORMAT),
    Field("generationOutputConfig", policy.WRITTEN_TO),
    Field("serviceTier", StripRule("price")),
    *_CHOICES,
)
_CALLING = (
    Field("mode", ENUM, "choice.mode"),
    Field("allowedFunctionNames", TEXTS, "choice.names"),
    Field("streamFunctionCallArguments", FLAG),
)
_TOOL_CONFIG = (
    Field("functionCallingConfig", _object(_CALLING), "choice", inside=_CALLING),
    Field("retrievalConfig", StripRule("web-search")),
    Field("includeServerSideToolInvocations", ExceptRule(False, StripRule("provider-history"))),
)
ROWS: tuple[Field, ...] = (
    Field("model", policy.MODEL, "model"),
    Field("contents", policy.CONTENTS, "messages"),
    Field("systemInstruction", policy.CONTENT, "messages"),
    Field("tools", policy.TOOLS, "tools"),
    Field("toolConfig", _object(_TOOL_CONFIG), inside=_TOOL_CONFIG),
    Field("generationConfig", _object(_CONFIG), inside=_CONFIG),
    Field("safetySettings", ListRule(policy.SAFETY)),
    Field("store", OverwriteRule("store", value=False)),
    Field("labels", StripRule("labels")),
    Field("modelArmorConfig", StripRule("provider-switch")),
    Field("serviceTier", StripRule("price")),
    *unread("cachedContent continuationToken", RefuseRule("stored-state")),
    *unread("generationOutputConfig outputConfig", policy.WRITTEN_TO),
    *_CHOICES,
)
FIELDS = FieldTable(
    ROWS,
    kin=frozenset({"gemini"}),
    reasons={
        "cache": "Gemini caches prefixes by itself",
        "parallel": "Gemini cannot be held to one call",
        "format.description": "the form of an answer is not described here",
        "sampling.top_logprobs": "Gemini has them beside logprobs only",
    },
    spell=camel,
    respell=snake,
)
COUNT_BODY = ObjectRule(
    FIELDS.policy.fields
    | dict.fromkeys(("generateContentRequest", "generate_content_request"), FIELDS.policy)
)
