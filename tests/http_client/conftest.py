import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import trustme
import uvloop

from .upstream import BOUND, Run


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a scenario on both event loops, for at most BOUND seconds."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def bounded(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.wait_for(scenario(), BOUND))

    return bounded


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, str]:
    made = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    made.cert_pem.write_to_path(str(path))
    return made, str(path)


@pytest.fixture(autouse=True)
def _no_event_loop_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail the test if the event loop logged an exception."""
    yield
    assert [r.getMessage() for r in caplog.records if r.name == "asyncio" and r.levelname == "ERROR"] == []
