from __future__ import annotations

from typing import get_args

from modelplex.core.request import Endpoint
from modelplex.records.operations import EMBEDDINGS, INFERENCE, OPERATIONS, operation_of


def test_every_named_endpoint_exists() -> None:
    assert set(OPERATIONS) <= set(get_args(Endpoint))
    assert INFERENCE | {EMBEDDINGS, "retrieval"} == set(OPERATIONS.values())


def test_an_endpoint_without_an_operation_is_named_by_its_path() -> None:
    assert operation_of("messages") == "chat"
    assert operation_of("audio/speech") == "audio/speech"
