from __future__ import annotations

import pytest

from modelplex.config import ConfigError
from modelplex.config.settings import SharedConfig
from modelplex.config.shared import shared_secrets
from tests.config.configs import DEMO, read

URL = "redis://me:p%40ss@limits.example.com:7000/1"


def test_the_table_is_read() -> None:
    shared = read(f'{DEMO}\n[shared]\nurl = "{URL}"\non_loss = "open"\nlease = 30\n').shared
    assert shared.url is not None
    assert shared.url.reveal() == URL
    assert (shared.on_loss, shared.lease) == ("open", 30.0)
    assert shared_secrets(shared) == [URL, "p%40ss", "p@ss"]
    assert "p%40ss" not in repr(shared)
    assert shared_secrets(SharedConfig()) == []
    assert read(DEMO).shared == SharedConfig()


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ('on_loss = "open"', "shared.url"),
        ('url = "http://secret.example"', "redis:// or rediss://"),
        ('url = "redis://"', "redis:// or rediss://"),
        ('url = "redis://host:secret"', "its port is a number"),
        ('url = "redis://host"\nlease = 0.5', "from 1 to 600"),
        ('url = "redis://host"\non_loss = "local"', '"refuse" or "open"'),
    ],
)
def test_a_fault_is_named_without_the_address(rows: str, text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(f"{DEMO}\n[shared]\n{rows}\n")
    assert text in str(raised.value)
    assert "secret" not in str(raised.value)
