from __future__ import annotations

import asyncio

import pytest

from modelplex.limits.shared.engine import Engine, place_of
from modelplex.limits.shared.messages import SharedMessage
from modelplex.limits.shared.problems import EngineLost, SharedError
from tests.limits.shared.redis_server import PASSWORD, RedisServer
from tests.processes import free_port

HELLO = SharedMessage(node="n", seq=1, lease=1000, first=True)


async def test_the_script_is_loaded_where_it_is_not_there(redis: RedisServer) -> None:
    engine = Engine(redis.url)
    try:
        assert (await engine.tell(HELLO)).state == "ok"
        redis.ask("SCRIPT", "FLUSH")
        assert (await engine.tell(SharedMessage(node="n", seq=2, lease=1000))).nodes == 1
        assert repr(engine) == f"<Engine redis://127.0.0.1:{redis.port}/0>"
    finally:
        await engine.close()


async def test_a_lost_engine_is_reached_again_by_the_next_message(kept_redis: RedisServer) -> None:
    engine = Engine(kept_redis.url)
    try:
        await engine.tell(HELLO)
        kept_redis.kill()
        with pytest.raises(EngineLost):
            await engine.tell(SharedMessage(node="n", seq=2, lease=60_000))
        kept_redis.start()
        assert (await engine.tell(SharedMessage(node="n", seq=3, lease=1000, first=True))).state == "ok"
    finally:
        await engine.close()


async def test_an_error_of_the_engine_shows_no_secret(redis: RedisServer) -> None:
    engine = Engine(redis.url.replace(PASSWORD, "wrong-password"))
    with pytest.raises(EngineLost) as raised:
        await engine.tell(HELLO)
    await engine.close()
    assert "wrong-password" not in str(raised.value)
    assert str(raised.value)


async def test_an_engine_that_is_not_there_is_lost() -> None:
    engine = Engine(f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(EngineLost, match="ConnectionError"):
        await engine.tell(HELLO)
    await engine.close()


async def test_an_engine_that_says_something_else_is_lost() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            writer.write(b"$2\r\nhi\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        engine = Engine(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(EngineLost):
            await engine.tell(HELLO)
        await engine.close()


def test_an_address_is_shown_without_its_secret() -> None:
    assert place_of("rediss://me:secret@db.example.com/3?x=secret") == "rediss://db.example.com:6379/3"
    assert place_of("redis://[::1]:7000") == "redis://[::1]:7000"
    with pytest.raises(SharedError) as raised:
        Engine("secret://secret")
    assert raised.value.sentence == "[shared] url is no address of Redis or Valkey."
