"""A small agent that has no way out but the gateway: `modelplex run -- python examples/agent.py`.

It tries the ways out, chats, streams, and has the model call a tool: one of the gateway's MCP tools
where there are any, else one of its own. It takes OpenAI's client where that is installed, and the
standard library where it is not. MODEL names the model (default: demo).
"""

import json
import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BASE = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:11435/models/v1")
GATEWAY = os.environ.get("MODELPLEX_BASE_URL", "http://127.0.0.1:11435")
MODEL = os.environ.get("MODEL", "demo")
OWN_TOOL = {
    "name": "count_words",
    "description": "Counts the words of a text.",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}

try:
    from openai import OpenAI
except ImportError:
    OpenAI = None


def fetch(url: str, body: dict[str, Any] | None = None) -> Any:
    """The open answer of a request, whose body is JSON."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", "authorization": "Bearer unused"}
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - the address is the gateway's
    return urllib.request.urlopen(request, timeout=60)  # noqa: S310


def chat(messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """The model's message, as a dict."""
    body = {
        "model": MODEL,
        "messages": messages,
        **({"tools": tools, "tool_choice": "required"} if tools else {}),
    }
    if OpenAI is not None:
        return (
            OpenAI(base_url=BASE, api_key="unused")
            .chat.completions.create(**body)
            .choices[0]
            .message.model_dump()
        )
    with fetch(f"{BASE}/chat/completions", body) as answer:
        return json.load(answer)["choices"][0]["message"]


def stream(messages: list[dict[str, Any]]) -> Iterator[str]:
    """The pieces of the model's answer, as they come."""
    body = {"model": MODEL, "messages": messages, "stream": True}
    if OpenAI is not None:
        for part in OpenAI(base_url=BASE, api_key="unused").chat.completions.create(**body):
            if part.choices and part.choices[0].delta.content:
                yield part.choices[0].delta.content
        return
    with fetch(f"{BASE}/chat/completions", body) as answer:
        for line in answer:
            if line.startswith(b"data: {"):
                choices = json.loads(line[6:])["choices"]
                if choices and choices[0]["delta"].get("content"):
                    yield choices[0]["delta"]["content"]


def mcp_tools() -> list[dict[str, Any]]:
    """The tools that the gateway offers; none where it has no MCP servers."""
    try:
        with fetch(f"{GATEWAY}/mcp/v1/tools") as answer:
            return json.load(answer)["tools"]
    except (urllib.error.HTTPError, KeyError, ValueError):
        return []


def use(tool: dict[str, Any], arguments: dict[str, Any], *, is_ours: bool) -> str:
    """What the tool says."""
    if is_ours:
        return str(len(arguments.get("text", "").split()))
    try:
        with fetch(f"{GATEWAY}/mcp/v1/tools/{tool['name']}/call", {"arguments": arguments}) as answer:
            return json.dumps(json.load(answer).get("content"))
    except urllib.error.HTTPError as error:
        return f"it failed: {error.read().decode()}"


def look_for_a_way_out() -> bool:
    """Whether there is one."""
    found = False
    interfaces = [row.split(":")[0].strip() for row in Path("/proc/net/dev").read_text().splitlines()[2:]]
    print("interfaces:", ", ".join(interfaces))
    for name, attempt in (
        ("TCP to 192.0.2.1", lambda: socket.create_connection(("192.0.2.1", 443), 5)),
        ("the name example.com", lambda: socket.getaddrinfo("example.com", 443)),
        ("a socket to the hypervisor", lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)),
    ):
        try:
            attempt()
        except OSError as error:
            print(f"{name}: {error.strerror or error}")
        else:
            found = True
            print(f"{name}: OPEN")
    return found or interfaces != ["lo"]


def main() -> int:
    way_out = look_for_a_way_out()
    print("has a way out" if way_out else "has no way out", end="\n\n")

    messages = [{"role": "user", "content": "Hello from a program without a network"}]
    print("chat:", chat(messages)["content"])

    print("stream: ", end="")
    pieces = 0
    for piece in stream(messages):
        pieces += 1
        print(piece, end="", flush=True)
    print(f"  ({pieces} pieces)")

    offered = mcp_tools()
    tool = offered[0] if offered else OWN_TOOL
    print(
        "tool:",
        tool["name"],
        "(of the gateway's MCP servers)" if offered else "(its own: the gateway has no MCP servers)",
    )
    function = {
        "name": tool["name"],
        "description": tool.get("description", ""),
        "parameters": tool["inputSchema"],
    }
    messages = [{"role": "user", "content": f"Use the tool {tool['name']} once."}]
    said = chat(messages, [{"type": "function", "function": function}])
    call = said["tool_calls"][0]
    print("the model asks for:", call["function"]["name"], call["function"]["arguments"])
    result = use(tool, json.loads(call["function"]["arguments"]), is_ours=not offered)
    print("the tool says:", result)
    messages += [
        {"role": "assistant", "content": said.get("content"), "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": result},
    ]
    print("chat:", chat(messages)["content"])
    return 1 if way_out else 0


if __name__ == "__main__":
    sys.exit(main())
