import threading
from collections.abc import Iterator

import pytest

from tests.records.lines import WAIT_S


@pytest.fixture
def no_writer_stays() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name == "log":
            thread.join(WAIT_S)
            assert not thread.is_alive()
