"""Servers without a network."""

import json

import pytest

from modelplex.mcp.constants import Unavailable

from .conftest import Start, text_of


async def test_without_a_network_there_is_only_the_loopback_interface(start: Start) -> None:
    scripted = start(extra={"network": False})
    try:
        reply = await scripted.call("network")
    except Unavailable as refused:
        assert "empty network namespace" in refused.sentence  # noqa: PT017 - a system may forbid namespaces
        pytest.skip("this system lets users have no namespaces")
    assert json.loads(text_of(reply)) == ["lo"]
