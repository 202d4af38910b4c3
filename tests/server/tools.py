"""A config with one tool server, which is a script."""

from __future__ import annotations

import json
import sys
from pathlib import Path

DEMO = '[[providers]]\nname = "demo"\ntype = "demo"\n'
SERVER = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    result = {
        "initialize": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}},
        "tools/list": {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]},
        "tools/call": {"content": [{"type": "text", "text": "done"}]},
    }.get(message["method"])
    answer = {"result": result} if result is not None else {"error": {"code": -32601, "message": "no"}}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}), flush=True)
"""


def enabled(folder: Path, more: str = "") -> str:
    script = folder / "server.py"
    script.write_text(SERVER)
    return (
        f'[mcp]\nenabled = true\npinning = "trust_first"\nlock_file = "{folder / "lock"}"\n{more}'
        f'[[mcp.servers]]\nname = "one"\ncommand = {json.dumps(sys.executable)}\nargs = [{json.dumps(str(script))}]\n'
    )
