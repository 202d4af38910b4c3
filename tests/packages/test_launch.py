from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelplex.packages.launch import PASSED
from modelplex.packages.plan import PackagesFault
from modelplex.packages.process import SocketSpec
from tests.packages.indexes import index
from tests.packages.mirrors import mirror


def test_the_mirror_gets_no_key_of_the_host() -> None:
    with index() as source, mirror(source, environ={**os.environ, "OPENAI_API_KEY": "sk-secret"}) as found:
        environ = Path(f"/proc/{found.running.pid}/environ").read_bytes()
    names = {pair.partition(b"=")[0].decode() for pair in environ.split(b"\0") if pair}
    assert names <= {*PASSED, "LC_CTYPE"}


def test_it_ends_when_it_is_stopped() -> None:
    with index() as source, mirror(source) as found:
        assert found.get("/simple/")[0] == 200
        found.running.stop()
        assert not Path(f"/proc/{found.running.pid}").exists()
        assert found.running.summary is not None


def test_a_mirror_that_does_not_start_is_an_error() -> None:
    with (
        index() as source,
        pytest.raises(PackagesFault, match="did not start"),
        mirror(source, sockets=(SocketSpec("/nowhere/x", tls=False),)),
    ):
        pass
