"""The tool server of the soak, over stdio: one tool, `echo`, in both eras. It imports little, since
its memory is counted with the gateway's.
"""

import json
import sys
from typing import Any

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
TOOL = {"name": "echo", "description": "Says it again.", "inputSchema": SCHEMA}
KEPT = {"ttlMs": 300_000, "cacheScope": "private"}
RESULTS: dict[str, dict[str, Any]] = {
    "tools/list": {"tools": [TOOL], **KEPT},
    "server/discover": {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, **KEPT},
    "initialize": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "echo", "version": "1"},
    },
    "ping": {},
}


def answer(message: dict[str, Any]) -> dict[str, Any]:
    if message["method"] == "tools/call":
        text = {"type": "text", "text": message["params"]["arguments"]["text"]}
        return {"result": {"resultType": "complete", "content": [text], "isError": False}}
    if message["method"] in RESULTS:
        return {"result": {"resultType": "complete", **RESULTS[message["method"]]}}
    return {"error": {"code": -32601, "message": "Method not found"}}


for line in sys.stdin.buffer:
    told = json.loads(line)
    if "id" in told:
        said = {"jsonrpc": "2.0", "id": told["id"], **answer(told)}
        sys.stdout.buffer.write(json.dumps(said).encode() + b"\n")
        sys.stdout.buffer.flush()
