"""Images that real agents attach arrive at a provider of another dialect."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import pytest

from tests.agents.installed import run
from tests.agents.scripted import FINAL, Dialect, Play, playing
from tests.agents.test_agents import AGENTS, TASK, Place, config_for, describe, output_of, place
from tests.gateways import gateway

__all__ = ["place"]

pytestmark = [pytest.mark.agents, pytest.mark.timeout(90)]

SIDE = 24
"""Of the picture, small enough for every agent to send it as it is."""
FILE = "picture.png"
BEGIN = b"\x89PNG\r\n\x1a\n"


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and data of each."""
    at = len(BEGIN)
    while at < len(png):
        (size,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        at += size + 12


def pixels(image: bytes) -> bytes:
    """The header and the rows of a PNG, which a rewrite of its other chunks leaves the same; of a
    JPEG the size only.
    """
    if image.startswith(b"\xff\xd8"):
        frame = re.search(rb"\xff[\xc0-\xc2]..\x08(....)", image, re.DOTALL)
        assert frame is not None
        return frame[1]
    assert image.startswith(BEGIN), image[:20]
    parts = list(chunks(image))
    rows = zlib.decompress(b"".join(data for kind, data in parts if kind == b"IDAT"))
    return next(data for kind, data in parts if kind == b"IHDR") + rows


def picture() -> bytes:
    """A PNG of RGB pixels that are all different."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(
        b"\0" + bytes(value for x in range(SIDE) for value in (x * 9, y * 9, (x * y) % 251))
        for y in range(SIDE)
    )
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    return BEGIN + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def images(body: Any) -> Iterator[bytes]:
    """The images of a request in the dialect of a scripted provider."""
    match body:
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            assert url.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")), url[:40]
            yield base64.b64decode(url.partition(",")[2])
        case {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png" | "image/jpeg", "data": str(data)},
        }:
            yield base64.b64decode(data)
        case {"images": [*datas], **rest}:
            yield from (base64.b64decode(data) for data in datas)
            yield from images(rest)
        case dict():
            for value in cast("dict[str, Any]", body).values():
                yield from images(value)
        case [*values]:
            for value in values:
                yield from images(value)
        case _:
            pass


@dataclass
class Sender:
    """`attach` puts the file into the command. `setting`: what is replaced in the agent's file of
    the page, which has a text model. `expected`: what arrives, as `pixels` tells it.
    """

    attach: Callable[[list[str]], list[str]]
    upstream: Dialect
    setting: tuple[str, str, str] | None = None
    expected: bytes | None = None


def at_file(command: list[str]) -> list[str]:
    return [f"{each} @{FILE}" if each == TASK else each for each in command]


SENDERS: Mapping[str, Sender] = {
    "codex": Sender(lambda command: [*command, "--image", FILE], "anthropic"),
    "claude-code": Sender(at_file, "openai"),
    "opencode": Sender(
        lambda command: [*command, "--file", FILE],
        "ollama",
        (
            ".config/opencode/opencode.json",
            '"tool_call": true',
            '"tool_call": true, "attachment": true, "modalities": {"input": ["text", "image"], "output": ["text"]}',
        ),
    ),
    "gemini-cli": Sender(at_file, "openai"),
    # It sends images only to models that it knows to take them, as JPEG.
    "qwen-code": Sender(
        lambda command: [*at_file(command), "--model", "qwen3-vl-plus"],
        "anthropic",
        expected=struct.pack(">HH", SIDE, SIDE),
    ),
    "pi": Sender(
        lambda command: [*command[:-1], f"@{FILE}", command[-1]],
        "ollama",
        (".pi/agent/models.json", '"input": ["text"]', '"input": ["text", "image"]'),
    ),
}


@pytest.mark.parametrize("name", SENDERS)
async def test_an_image_of_an_agent_arrives_at_a_provider_of_another_dialect(name: str, place: Place) -> None:
    agent, sender = AGENTS[name], SENDERS[name]
    (place.work / FILE).write_bytes(picture())
    play = Play({}, "I see it. ")
    async with playing(sender.upstream, play) as upstream:
        config = config_for(sender.upstream, url=upstream.url)
        async with gateway(config, folder=place.home.parent) as gw:
            command, environ = agent.start(place)
            if sender.setting is not None:
                path, old, new = sender.setting
                text = (place.home / path).read_text()
                assert old in text
                (place.home / path).write_text(text.replace(old, new))
            done = await run(
                sender.attach(command), socket=gw.socket, home=place.home, cwd=place.work, environ=environ
            )
            facts = describe(done, play, gw.records)
            assert done.status == 0, facts
            assert FINAL[-1] in output_of(done), facts
            sent = [image for each in upstream.seen for image in images(each.json)]
            assert sent, facts
            assert {pixels(image) for image in sent} == {sender.expected or pixels(picture())}, facts
            assert not any(record.passthrough for record in gw.records if record.attempts), facts
