"""The request bodies of the benchmark: the same text every time, in the forms that agents send."""

import json
import random
from pathlib import Path
from typing import Any

WORDS = (
    "the of gateway request file error function return import class test agent context window token stream parse json"
    ' "quoted" path/to/file.py line\n'
).split(" ")
MODEL = "gpt-4o"
"""A model name that every measured gateway accepts: one of them has a fixed catalog."""
# An agent's context beyond this size comes with its tools.
TOOLS_FROM_BYTES = 4000
LONGEST_MESSAGE = 6000

# Of each streamed body: chunks, and milliseconds between them; upstream.c reads them from
# max_tokens and seed.
STREAMS = {"stream": (100, 20), "held": (1_000_000, 200), "unread": (1_000_000, 0)}
TRANSLATED = {"40 KB, translated": "40 KB", "stream, translated": "stream"}
"""Messages requests for a provider that speaks chat completions, beside the same as passthrough."""
PLAIN = {"500 B": 500, "40 KB": 40_000, "1 MB": 1_000_000}
LARGE = {"4 MB": 4_000_000, "20 MB": 20_000_000}


def _compact(value: Any) -> bytes:
    """As JSON.stringify and the official clients write it: no white space, no unneeded escapes."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _text(length: int, *, dice: random.Random) -> str:
    words = (dice.choice(WORDS) for _ in range(length))
    return " ".join(words)[:length]


def _tool(number: int, *, dice: random.Random) -> dict[str, Any]:
    arguments = {"a": {"type": "string", "description": _text(80, dice=dice)}, "b": {"type": "integer"}}
    shape = {"type": "object", "properties": arguments, "required": ["a"]}
    return {
        "type": "function",
        "function": {"name": f"tool_{number}", "description": _text(200, dice=dice), "parameters": shape},
    }


def body(size: int, **more: Any) -> bytes:
    """A chat completions request of about `size` bytes, with the members of `more`."""
    dice = random.Random(1)  # noqa: S311 - the same bodies in every run, and no secret among them
    system = {"role": "system", "content": "You are a helpful assistant."}
    request: dict[str, Any] = {"model": MODEL, "messages": [system], "temperature": 0.7, **more}
    if size > TOOLS_FROM_BYTES:
        request["tools"] = [_tool(number, dice=dice) for number in range(12)]
    written = len(_compact(request))
    while written < size:
        role = "assistant" if len(request["messages"]) % 2 == 0 else "user"
        length = min(max(10, size - written - 40), LONGEST_MESSAGE)
        message = {"role": role, "content": _text(length, dice=dice)}
        request["messages"].append(message)
        written += len(_compact(message)) + 1
    return _compact(request)


def as_messages(chat: bytes) -> bytes:
    """The same conversation as a Messages request, for a gateway that has to translate it."""
    asked = json.loads(chat)
    said = [each for each in asked["messages"] if each["role"] != "system"]
    told = {
        "model": asked["model"],
        "max_tokens": 100,
        "system": "".join(each["content"] for each in asked["messages"] if each["role"] == "system"),
        "messages": [{"role": each["role"], "content": each["content"]} for each in said],
    }
    if "tools" in asked:
        tools = [each["function"] for each in asked["tools"]]
        told["tools"] = [
            {"name": t["name"], "description": t["description"], "input_schema": t["parameters"]}
            for t in tools
        ]
    if asked.get("stream"):
        told["stream"] = True
    return _compact(told)


def write(folder: Path) -> dict[str, Path]:
    """One file for each of PLAIN, LARGE and STREAMS, by that name, and for each of TRANSLATED."""
    wanted = {name: body(size) for name, size in (PLAIN | LARGE).items()}
    for name, (chunks, pause_ms) in STREAMS.items():
        asked = {
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": chunks,
            "seed": pause_ms,
        }
        wanted[name] = body(500, **asked)
    wanted |= {name: as_messages(wanted[same]) for name, same in TRANSLATED.items()}
    files = {name: folder / f"{name.replace(' ', '').replace(',', '-')}.json" for name in wanted}
    for name, file in files.items():
        file.write_bytes(wanted[name])
    return files
