"""A Secret shows its value only through reveal()."""

import copy
import json

import msgspec
import pytest

from modelplex.config import (
    Secret,
    hide,
)
from tests.config.configs import KEY


def test_only_reveal_shows_a_secret() -> None:
    secret = Secret(KEY)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>30}", f"{[secret]}", json.dumps(hide(secret))]
    assert all(KEY not in one and "********" in one for one in shown)
    assert secret.reveal() == KEY
    assert (secret, hash(secret)) == (Secret(KEY), hash(copy.copy(secret)))
    assert secret != Secret("other")
    assert secret != KEY
    assert Secret("x")
    assert not Secret("")


def test_json_rejects_a_secret_without_hide() -> None:
    with pytest.raises(TypeError):
        msgspec.json.encode(Secret(KEY))
    with pytest.raises(NotImplementedError):
        hide(3j)
