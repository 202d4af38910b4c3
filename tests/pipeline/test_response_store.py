"""Answers that are kept: found by their owner, for as long as there is room."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest

from modelplex.pipeline.response_store import ResponseStore, StoreLimits

ASKED = [msgspec.Raw(b'{"role":"user","content":"Hi","n":12345678901234567890}')]
MADE = [msgspec.Raw(b'{"type":"message"}')]
BODY = b'{"id":"resp_1","output":[{"type":"message"}]}'


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def _keep(answers: ResponseStore, id_: str, *, owner: str = "", body: bytes = BODY) -> bool:
    return await answers.keep(id_, input=ASKED, output=MADE, body=body, owner=owner)


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_what_is_kept_is_found_byte_for_byte(tmp_path: Path, kind: str) -> None:
    answers = ResponseStore() if kind == "memory" else ResponseStore(tmp_path / "state" / "answers.sqlite")
    assert await _keep(answers, "resp_1")
    found = await answers.find("resp_1")
    assert found is not None
    assert found.body == BODY
    assert [bytes(item) for item in found.items] == [bytes(ASKED[0]), bytes(MADE[0])]
    assert await answers.find("resp_2") is None
    await answers.close()


async def test_an_answer_is_found_and_deleted_by_its_owner_alone() -> None:
    answers = ResponseStore()
    await _keep(answers, "resp_1", owner="ada")
    assert await answers.find("resp_1", owner="bob") is None
    assert not await answers.delete("resp_1", owner="bob")
    assert await answers.find("resp_1", owner="ada") is not None
    assert await answers.delete("resp_1", owner="ada")
    assert await answers.find("resp_1", owner="ada") is None
    await answers.close()


async def test_the_oldest_go_when_there_are_too_many() -> None:
    answers = ResponseStore(limits=StoreLimits(answers=2))
    for n in range(3):
        await _keep(answers, f"resp_{n}")
    assert [await answers.find(f"resp_{n}") is not None for n in range(3)] == [False, True, True]
    await answers.close()


async def test_the_oldest_go_when_they_are_too_large_together() -> None:
    answers = ResponseStore(limits=StoreLimits(bytes=2500))
    for n in range(3):
        await _keep(answers, f"resp_{n}", body=b"x" * 1000)
    assert [await answers.find(f"resp_{n}") is not None for n in range(3)] == [False, True, True]
    await answers.close()


async def test_one_that_is_too_large_is_not_kept_and_drives_out_no_other() -> None:
    answers = ResponseStore(limits=StoreLimits(bytes=2500, bytes_each=2000))
    await _keep(answers, "resp_1")
    assert not await _keep(answers, "resp_2", body=b"x" * 3000)
    assert await answers.find("resp_1") is not None
    await answers.close()


async def test_one_that_is_too_old_is_not_found() -> None:
    clock = Clock()
    answers = ResponseStore(limits=StoreLimits(age=60), clock=clock)
    await _keep(answers, "resp_1")
    clock.now += 61
    assert await answers.find("resp_1") is None
    await _keep(answers, "resp_2")
    assert "1 of" in repr(answers)
    await answers.close()


async def test_a_file_outlives_its_process_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    first = ResponseStore(path)
    await _keep(first, "resp_1")
    await _keep(first, "resp_1")
    await first.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = ResponseStore(path, limits=StoreLimits(answers=1))
    assert await second.find("resp_1") is not None
    await _keep(second, "resp_2")
    assert await second.find("resp_1") is None
    await second.close()


async def test_a_file_that_takes_no_more_keeps_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    path.write_bytes(b"not a database at all, but a text that is long enough" * 40)
    answers = ResponseStore(path)
    assert not await _keep(answers, "resp_1")
    await answers.close()


async def test_two_processes_share_the_limits_of_a_file(tmp_path: Path) -> None:
    """Each counts what the other has stored."""
    stores = [ResponseStore(tmp_path / "answers.sqlite", limits=StoreLimits(answers=4)) for _ in range(2)]
    for store in stores:
        await store.open()
    for number in range(8):
        assert await _keep(stores[number % 2], f"resp_{number}")
    found = [await stores[0].find(f"resp_{number}") is not None for number in range(8)]
    assert found == [False] * 4 + [True] * 4
    for store in stores:
        await store.close()
