"""The members of a Converse request, one row each.

Source: ConverseRequest of botocore 1.44.8, bedrock-runtime 2023-09-30. Members that only the owner
of the gateway sets (`added` of the type) have no row: they are added behind the policy.
"""

from __future__ import annotations

from modelplex.dialects.bedrock_converse import policy
from modelplex.dialects.core.fields import Field, FieldTable, rules_of
from modelplex.policy.containers import ObjectRule
from modelplex.policy.leaves import NUMBER, TEXTS

_INFERENCE: tuple[Field, ...] = (
    Field("maxTokens", NUMBER, "max_tokens", int),
    Field("temperature", NUMBER, "sampling.temperature", float, most=1),
    Field("topP", NUMBER, "sampling.top_p", float, most=1),
    Field("stopSequences", TEXTS, "sampling.stop", list[str], tuple, most=2500),
)
FIELDS = FieldTable(
    (
        Field("messages", policy.MESSAGES, "messages"),
        Field("system", policy.SYSTEM, "messages"),
        Field("inferenceConfig", ObjectRule(rules_of(_INFERENCE)), inside=_INFERENCE),
        Field("toolConfig", policy.TOOLS, "tools"),
        Field("outputConfig", policy.OUTPUT, "format"),
        Field("additionalModelResponseFieldPaths", TEXTS),
        Field("additionalModelRequestFields", policy.MODEL_FIELDS),
    ),
    reasons={
        "sampling.top_k": "this model has no such parameter here",
        "sampling.min_p": "Converse has no such parameter",
        "sampling.seed": "Converse has no such parameter",
        "sampling.presence_penalty": "Converse has no such parameter",
        "sampling.frequency_penalty": "Converse has no such parameter",
        "sampling.logit_bias": "Converse has no such parameter",
        "sampling.logprobs": "Converse returns no log probabilities",
        "sampling.top_logprobs": "Converse returns no log probabilities",
        "verbosity": "Converse has no such parameter",
        "cache_key": "Converse caches by cache points",
        "user": "Converse has no end users",
        "metadata": "request metadata is for the logs of the account's owner, in `body` of the config",
        "tier": "the service tier is the owner's choice, in `body` of the config",
        "parallel": "Converse cannot be held to one call",
        "reasoning.show": "Converse has no such parameter",
    },
)
