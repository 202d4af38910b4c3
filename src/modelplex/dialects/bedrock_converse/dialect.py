"""Amazon Bedrock's Converse and ConverseStream: the Dialect value.

Providers only. Source: the service model bedrock-runtime 2023-09-30 of botocore 1.44.8;
docs/reference/wire-formats.md#bedrock-converse.
"""

from __future__ import annotations

from typing import NoReturn

from modelplex.core.errors import UpstreamBroken
from modelplex.dialects.bedrock_converse import forms
from modelplex.dialects.bedrock_converse.errors import read_error
from modelplex.dialects.bedrock_converse.fields import FIELDS
from modelplex.dialects.bedrock_converse.request_out import write_call
from modelplex.dialects.bedrock_converse.response_in import ConverseStreamReader, read_response
from modelplex.dialects.dialect import Dialect, ProviderDialect
from modelplex.policy.judge import PolicyTable


def read_models(body: bytes) -> NoReturn:
    """Raises UpstreamBroken: the host of Converse has no list of models."""
    del body
    raise UpstreamBroken("The host of Converse has no list of models; name them in `models`.")


CONVERSE = Dialect(
    form=forms.CONVERSE,
    leaf_of=FIELDS.leaf_of,
    policy=PolicyTable(FIELDS.policy),
    provider=ProviderDialect(
        write_call=write_call,
        read_response=read_response,
        reader=ConverseStreamReader,
        read_error=read_error,
        read_models=read_models,
    ),
)

DIALECTS = (CONVERSE,)
