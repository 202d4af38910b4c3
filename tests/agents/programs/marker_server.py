"""An MCP server over stdio with one tool: `marker_server.py FILE`."""

import json
import sys
from pathlib import Path
from typing import Any

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
TOOL = {"name": "write_marker", "description": "Writes a text into the marker file", "inputSchema": SCHEMA}


def result(method: str, params: Any) -> Any:
    match method:
        case "initialize":
            server = {"name": "marker", "version": "1"}
            return {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": server,
            }
        case "tools/list":
            return {"tools": [TOOL]}
        case "tools/call":
            with Path(sys.argv[1]).open("a") as file:
                file.write(params["arguments"]["text"])
            return {"content": [{"type": "text", "text": "written on the host"}]}
        case "ping":
            return {}
        case _:
            return None


for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message or "method" not in message:
        continue
    found = result(message["method"], message.get("params"))
    answer: dict[str, Any] = {"error": {"code": -32601, "message": "unknown"}}
    if found is not None:
        answer = {"result": found}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}), flush=True)
