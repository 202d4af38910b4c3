"""Clouds that throttle, in each form that they have, with the official client in front: the gateway
waits and asks again, or goes on to the next provider, as the config says.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anthropic
import openai
import pytest
from google.genai import errors as gemini_errors

from tests.cloud_clients import CONTENT, MESSAGE, ask_anthropic, ask_gemini, ask_openai
from tests.dialects.bedrock_converse.converse_model import whole
from tests.gateways import Running, gateway
from tests.upstreams import Scripted, chat_answer, provider

WAIT_S = 0.2
"""What a cloud asks for that names a time."""


class Reply(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str] = {}  # noqa: RUF012  a NamedTuple's default, never changed

    @property
    def data(self) -> bytes:
        data = json.dumps(self.body).encode()
        rows = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        head = (
            f"HTTP/1.1 {self.status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n"
        )
        return f"{head}{rows}\r\n".encode() + data


def aws(name: str, text: str) -> Reply:
    return Reply(429, {"message": text}, {"x-amzn-errortype": name, "x-amzn-requestid": "r1"})


GOOGLE = Reply(
    429,
    {
        "error": {
            "code": 429,
            "message": "Resource exhausted. Please try again later.",
            "status": "RESOURCE_EXHAUSTED",
            "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{WAIT_S}s"}],
        }
    },
)
AZURE = Reply(
    429,
    {"error": {"code": "429", "message": "Requests have exceeded the call rate limit of your tier."}},
    {
        "retry-after-ms": str(int(WAIT_S * 1000)),
        "retry-after": "1",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-remaining-tokens": "0",
    },
)
FOUNDRY = Reply(
    429,
    {"type": "error", "error": {"type": "rate_limit_error", "message": "Too many requests."}},
    {"retry-after": str(WAIT_S), "anthropic-ratelimit-requests-remaining": "0"},
)
THROTTLED = aws("ThrottlingException", "Too many requests, please wait before trying again.")
OPENAI_FORM = Reply(
    429, {"error": {"message": "Too many requests, please wait before trying again.", "code": "429"}}
)


class Cloud(NamedTuple):
    """A type of provider, what it answers when it throttles and when it does not, whether its 429
    names a time, and the client whose form it has.
    """

    type: str
    throttled: Reply
    answer: Any
    names_a_time: bool
    ask: Callable[[Running], Awaitable[str]]


CLOUDS = [
    Cloud("bedrock-converse", THROTTLED, whole({"text": "Hello"}), False, ask_openai),
    Cloud("bedrock", OPENAI_FORM, chat_answer(), False, ask_openai),
    Cloud("bedrock-anthropic", FOUNDRY, MESSAGE, True, ask_anthropic),
    Cloud("vertex", GOOGLE, CONTENT, True, ask_gemini),
    Cloud("vertex-anthropic", GOOGLE, MESSAGE, False, ask_anthropic),
    Cloud("vertex-openai", GOOGLE, chat_answer(), False, ask_openai),
    Cloud("azure", AZURE, chat_answer(), True, ask_openai),
    Cloud("azure-anthropic", FOUNDRY, MESSAGE, True, ask_anthropic),
]
each_cloud = pytest.mark.parametrize("cloud", CLOUDS, ids=lambda cloud: cloud.type)


@asynccontextmanager
async def service(*replies: Reply) -> AsyncGenerator[tuple[Scripted, list[float]], None]:
    """Serves each reply in turn, the last one for all that follow; and when each request came."""
    times: list[float] = []

    async def act(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        times.append(time.monotonic())
        writer.write(replies[min(len(times), len(replies)) - 1].data)
        await writer.drain()

    async with provider(act) as scripted:
        scripted.url = scripted.url.removesuffix("/v1")
        yield scripted, times


def row(name: str, cloud: Cloud, scripted: Scripted, priority: int) -> str:
    return (
        f'[[providers]]\nname = "{name}"\ntype = "{cloud.type}"\nbase_url = "{scripted.url}"\napi_key = "k"\n'
        f'models = ["m"]\npriority = {priority}\n'
    )


def failover(**rows: float) -> str:
    given = {"backoff": 0.01, "max_backoff": 0.02, **rows}
    return "\n[failover]\n" + "".join(f"{name} = {value}\n" for name, value in given.items())


@each_cloud
async def test_a_throttled_request_waits_and_is_sent_again(cloud: Cloud, tmp_path: Path) -> None:
    async with service(cloud.throttled, Reply(200, cloud.answer)) as (scripted, times):
        text = row("one", cloud, scripted, 1) + failover(retries=1)
        async with gateway(text, folder=tmp_path) as gw:
            assert await cloud.ask(gw) == "Hello"
            record = await gw.record()
    first, second = times
    if cloud.names_a_time:
        assert second - first >= WAIT_S
    assert [attempt.status for attempt in record.attempts] == [429, 200]


@each_cloud
async def test_a_throttled_request_goes_on_to_the_next_provider(cloud: Cloud, tmp_path: Path) -> None:
    async with service(cloud.throttled) as (busy, times), service(Reply(200, cloud.answer)) as (free, _):
        text = row("busy", cloud, busy, 1) + row("free", cloud, free, 2) + failover(retries=0)
        async with gateway(text, folder=tmp_path) as gw:
            assert await cloud.ask(gw) == "Hello"
            record = await gw.record()
    assert len(times) == 1
    assert [attempt.provider for attempt in record.attempts] == ["busy", "free"]


@each_cloud
async def test_a_wait_that_is_too_long_is_not_waited_for(cloud: Cloud, tmp_path: Path) -> None:
    long = cloud.throttled._replace(headers={**cloud.throttled.headers, "retry-after": "3600", "retry-after-ms": "3600000"})  # fmt: skip
    async with service(long) as (busy, times), service(Reply(200, cloud.answer)) as (free, _):
        text = row("busy", cloud, busy, 1) + row("free", cloud, free, 2) + failover(retries=2)
        async with gateway(text, folder=tmp_path) as gw:
            assert await cloud.ask(gw) == "Hello"
    assert len(times) == 1


@each_cloud
async def test_a_client_is_told_that_it_is_throttled(cloud: Cloud, tmp_path: Path) -> None:
    async with service(cloud.throttled) as (busy, times):
        text = row("busy", cloud, busy, 1) + failover(retries=1)
        async with gateway(text, folder=tmp_path) as gw:
            with pytest.raises((openai.RateLimitError, anthropic.RateLimitError, gemini_errors.ClientError)):
                await cloud.ask(gw)
            record = await gw.record()
    assert len(times) == 2
    assert record.status == 429


async def test_the_limits_of_azure_reach_the_client(tmp_path: Path) -> None:
    (cloud,) = (each for each in CLOUDS if each.type == "azure")
    async with service(AZURE) as (busy, _):
        text = row("busy", cloud, busy, 1) + failover(retries=0)
        async with gateway(text, folder=tmp_path) as gw:
            with pytest.raises(openai.RateLimitError) as refused:
                await ask_openai(gw)
    headers = refused.value.response.headers
    assert headers["x-ratelimit-remaining-tokens"] == "0"
    assert float(headers["retry-after"]) >= WAIT_S


@pytest.mark.parametrize(
    "used_up",
    [
        aws("ThrottlingException", "Too many tokens per day, please wait before trying again."),
        Reply(400, {"message": "Your request exceeds the service quota for your account."}, {"x-amzn-errortype": "ServiceQuotaExceededException"}),
    ],
    ids=["tokens per day", "service quota"],
)  # fmt: skip
async def test_a_quota_that_is_used_up_is_not_waited_for(used_up: Reply, tmp_path: Path) -> None:
    cloud = CLOUDS[0]
    async with service(used_up) as (busy, times), service(Reply(200, cloud.answer)) as (free, _):
        text = row("busy", cloud, busy, 1) + row("free", cloud, free, 2) + failover(retries=2)
        async with gateway(text, folder=tmp_path) as gw:
            assert await cloud.ask(gw) == "Hello"
    assert len(times) == 1
