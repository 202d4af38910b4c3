"""`modelplex check --reach` requests the list of each provider's models."""

from __future__ import annotations

from pathlib import Path

from modelplex.config import load
from modelplex.server.reach import ReachResult, check_reach
from tests.gateways import one
from tests.upstreams import answer, provider

LIST = {"object": "list", "data": [{"id": name, "object": "model"} for name in ("m", "n")]}


async def test_each_provider_is_checked_and_its_name_is_not_repeated(tmp_path: Path) -> None:
    async with (
        provider(answer(LIST)) as good,
        provider(answer({"error": {"message": "No."}}, status=401)) as bad,
    ):
        config = tmp_path / "config.toml"
        config.write_text(
            "".join(
                one(url, name=name)
                for name, url in (("good", good.url), ("bad", bad.url), ("dead", "http://127.0.0.1:1/v1"))
            )
        )
        results = await check_reach(load(str(config), environ={}))
    assert results[0] == ReachResult("good", ok=True, sentence="2 models")
    assert [(each.provider, each.ok, each.answered) for each in results[1:]] == [
        ("bad", False, True),
        ("dead", False, False),
    ]
    assert not any(each.sentence.startswith(each.provider) for each in results)
