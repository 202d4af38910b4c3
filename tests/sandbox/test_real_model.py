"""Official SDKs inside `modelplex run` with a real model, and an agent that calls a real tool
server.
"""

from __future__ import annotations

import json
import sys

import pytest

from tests.peers import node, node_modules
from tests.sandbox.sandboxes import ROOT, Person

TOKENS = 12
PYTHON = """
import json, os, sys, openai, anthropic
sys.stdout.reconfigure(line_buffering=True)
request = {"model": "m", "messages": [{"role": "user", "content": "Once upon a time"}], "max_tokens": int(sys.argv[1])}
report = {}
for name, base in (("http", None), ("unix", "unix:" + os.environ["MODELPLEX_SOCKET"])):
    client = openai.OpenAI(**({"base_url": base} if base else {}))
    whole = client.chat.completions.create(**request)
    pieces = list(client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}))
    report[name] = {
        "finish": whole.choices[0].finish_reason,
        "tokens": whole.usage.completion_tokens,
        "pieces": sum(1 for p in pieces if p.choices and p.choices[0].delta.content),
        "streamed_finish": [p.choices[0].finish_reason for p in pieces if p.choices][-1],
        "streamed_tokens": pieces[-1].usage.completion_tokens,
    }
with anthropic.Anthropic().messages.stream(**request) as stream:
    report["messages"] = stream.get_final_message().stop_reason
print(json.dumps(report))
"""
NODE = """
import { createRequire } from "node:module";
const OpenAI = createRequire(process.env.MODULES)("openai");
const client = new OpenAI();
const request = { model: "m", messages: [{ role: "user", content: "Once upon a time" }], max_tokens: Number(process.argv[2]) };
const whole = await client.chat.completions.create(request);
const stream = await client.chat.completions.create({ ...request, stream: true });
let pieces = 0, finish = null;
for await (const piece of stream) {
  if (piece.choices[0]?.delta?.content) pieces += 1;
  finish = piece.choices[0]?.finish_reason ?? finish;
}
console.log(JSON.stringify({ finish: whole.choices[0].finish_reason, pieces, streamed_finish: finish }));
"""
TOOLS = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    report = {
        "initialize": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "t", "version": "1"}},
        "tools/list": {"tools": [{"name": "shout", "description": "Says it louder", "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}}}]},
        "tools/call": {"content": [{"type": "text", "text": "LOUDER"}]},
    }.get(request["method"])
    answer = {"result": report} if report else {"error": {"code": -32601, "message": "no"}}
    print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer}), flush=True)
"""


def configure(who: Person, text: str) -> None:
    (who.folder / "config.toml").write_text(text)


@pytest.mark.real
@pytest.mark.slow
def test_the_python_sdks_call_a_real_model_from_inside(who: Person, llama: str) -> None:
    configure(who, f'[[providers]]\nname = "llama"\ntype = "openai"\nbase_url = "{llama}"\nmodels = ["m"]\n')
    done = who.run("--", sys.executable, "-c", PYTHON, str(TOKENS))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["messages"] == "max_tokens"
    for way in ("http", "unix"):
        assert (report[way]["finish"], report[way]["streamed_finish"]) == ("length", "length")
        assert (report[way]["tokens"], report[way]["streamed_tokens"]) == (TOKENS, TOKENS)
        assert report[way]["pieces"] > 1


@pytest.mark.real
def test_the_node_sdk_calls_a_real_model_from_inside(who: Person, llama: str) -> None:
    configure(who, f'[[providers]]\nname = "llama"\ntype = "openai"\nbase_url = "{llama}"\nmodels = ["m"]\n')
    (who.folder / "a.mjs").write_text(NODE)
    modules = node_modules()
    words = ["--ro", str(modules), "--ro", str(node()), "--env", f"MODULES={modules}/"]
    done = who.run(*words, "--", str(node()), "a.mjs", str(TOKENS))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["finish"], report["streamed_finish"]) == ("length", "length")
    assert report["pieces"] > 1


def test_an_agent_inside_calls_a_tool_of_the_host(who: Person) -> None:
    (who.home / "tools.py").write_text(TOOLS)
    server = (
        f'[[mcp.servers]]\nname = "loud"\ncommand = "{sys.executable}"\nargs = ["{who.home / "tools.py"}"]\n'
    )
    configure(who, f'[[providers]]\nname = "demo"\ntype = "demo"\n\n[mcp]\nenabled = true\n{server}')
    (who.folder / "agent.py").write_text((ROOT / "examples" / "agent.py").read_text())
    done = who.run("--", sys.executable, "agent.py")
    assert done.returncode == 0, done.stderr
    assert "has no way out" in done.stdout
    assert "loud__shout" in done.stdout
    assert "LOUDER" in done.stdout
