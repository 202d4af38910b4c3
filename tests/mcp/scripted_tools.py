"""A tool server whose definitions are a file's, so that a test can change them between two starts:
`python -S -E scripted_tools.py FILE`.

The file holds {"tools": [...], "prompts": [...], "instructions": "..."}. A tool gives back its
arguments; `fail` fails, `break` is no tool of it.
"""

import json
import sys
from pathlib import Path
from typing import Any

OFFERED = json.loads(Path(sys.argv[1]).read_text())


def answer(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    match method:
        case "initialize":
            capabilities: dict[str, Any] = {name: {} for name in ("tools", "prompts") if name in OFFERED}
            info = {"name": "scripted", "version": "1.0"}
            said = {"instructions": OFFERED["instructions"]} if "instructions" in OFFERED else {}
            return {"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": info, **said}
        case "tools/list" | "prompts/list":
            kind = method.partition("/")[0]
            return {kind: OFFERED.get(kind, [])}
        case "tools/call" if params["name"] != "break":
            arguments = params.get("arguments", {})
            text = {"type": "text", "text": json.dumps(arguments)}
            image = {"type": "image", "mimeType": "image/png", "data": "AAAA"}
            return {"content": [text, image], "isError": params["name"] == "fail", "vendor": 1}
        case _:
            return None


for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        result = answer(message["method"], message.get("params", {}))
        outcome = (
            {"result": result}
            if result is not None
            else {"error": {"code": -32601, "message": "no\x1b[31m such"}}
        )
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **outcome}), flush=True)
