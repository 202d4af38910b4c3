"""A tool server that does what its arguments say, with the standard library only:
`python -S -E scripted.py SWITCH...`.

Switches: era=legacy|modern, version=..., probe=die|hang|error:CODE, log=FILE (a line for each
start and each message), start=exit|rubbish|flood|slow:SECONDS,
pages=N|cycle|endless, missing=METHOD, capabilities=JSON, ignore=eof,term, fork=yes, tools=N,
names=TOOL,... (listed beside those).
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

Json = dict[str, Any]

SET: dict[str, str] = {key: value for key, _, value in (arg.partition("=") for arg in sys.argv[1:])}
ERA = SET.get("era", "legacy")
VERSION = SET.get("version", "2025-11-25" if ERA == "legacy" else "2026-07-28")
CAPABILITIES: Json = json.loads(
    SET.get(
        "capabilities",
        '{"tools":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true},"prompts":{}}',
    )
)
LOCK = threading.Lock()
ANSWERS: dict[str, Json | None] = {}
CANCELLED: set[object] = set()
EXTRA: list[str] = []
TOKENS: list[object] = []
PROTOCOL = "io.modelcontextprotocol/"


def write_log(text: str) -> None:
    if "log" in SET:
        with Path(SET["log"]).open("a") as file:
            file.write(text + "\n")


def send(message: Json) -> None:
    with LOCK:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def result(id: object, value: Json) -> None:
    if ERA == "modern":
        value = {"resultType": "complete", **value}
    send({"jsonrpc": "2.0", "id": id, "result": value})


def error(id: object, code: int, message: str = "no", data: Json | None = None) -> None:
    send(
        {
            "jsonrpc": "2.0",
            "id": id,
            "error": {"code": code, "message": message, **({"data": data} if data else {})},
        }
    )


def notify(method: str, params: Json | None = None) -> None:
    send({"jsonrpc": "2.0", "method": method, **({"params": params} if params is not None else {})})


def request(method: str, params: Json) -> Json:
    of = f"q{len(ANSWERS)}"
    ANSWERS[of] = None
    send({"jsonrpc": "2.0", "id": of, "method": method, "params": params})
    while (answer := ANSWERS[of]) is None:
        time.sleep(0.002)
    return answer


def tools(params: Json) -> Json:
    count = int(SET.get("tools", "2"))
    named = [name for name in SET.get("names", "").split(",") if name]
    names = [f"tool{n}" for n in range(count)] + named + EXTRA
    pages = SET.get("pages")
    listed: list[Json] = [
        {"name": n, "inputSchema": {"type": "object", "$defs": {"a": {}}}, "x-vendor": 1} for n in names
    ]
    if pages is None:
        return {"tools": listed}
    cursor = int(params.get("cursor", "0"))
    page: Json = {"tools": [{**listed[0], "name": f"page{cursor}"}]}
    if pages == "cycle":
        return {**page, "nextCursor": str((cursor + 1) % 3)}
    if pages == "endless" or cursor + 1 < int(pages):
        return {**page, "nextCursor": str(cursor + 1)}
    return page


def call(message: Json) -> None:
    params: Json = message.get("params", {})
    of = message["id"]
    name, args = params.get("name"), params.get("arguments", {})
    meta = params.get("_meta", {})
    text = ""
    if name == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif name == "hang":
        while of not in CANCELLED:
            time.sleep(0.005)
        write_log(f"cancelled {of}")
        return
    elif name == "environment":
        text = json.dumps(dict(os.environ))
    elif name == "meta":
        text = json.dumps(meta)
    elif name == "pid":
        text = str(os.getpid())
    elif name == "big":
        text = "x" * args["size"]
    elif name == "undecodable":
        text = os.fsdecode(b"caf\xe9.txt")  # the name of a file that is no UTF-8
    elif name == "rubbish":
        with LOCK:
            sys.stdout.write('not json\n{"half": \n[1,2]\n{}\n' + "[" * 5000 + "\n")
    elif name == "flood":
        with LOCK:
            for _ in range(args["megabytes"]):
                sys.stdout.write("x" * 1_000_000)
    elif name == "stderr":
        sys.stderr.write(args["text"] + "\n")
        sys.stderr.flush()
    elif name == "progress":
        for n in range(args["steps"]):
            time.sleep(args["pause"])
            notify(
                "notifications/progress",
                {"progressToken": meta.get("progressToken"), "progress": n, "future": True},
            )
    elif name == "task":
        TOKENS.append(meta.get("progressToken"))
        result(of, {"task": {"taskId": "t1", "status": "working"}})
        return
    elif name == "go_on":
        notify("notifications/progress", {"progressToken": TOKENS[0], "progress": 1})
        notify("notifications/progress", {"progressToken": "another's", "progress": 1})
        notify("notifications/tasks/status", {"taskId": "t1", "status": "completed"})
    elif name == "log":
        notify("notifications/message", {"level": "info", "data": args})
    elif name == "ask":
        text = json.dumps(request(args["method"], args.get("params", {})))
    elif name == "fork":
        child = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", FORKED], start_new_session=True, env=os.environ
        )
        text = str(child.pid)
    elif name == "network":
        with Path("/proc/net/dev").open() as file:
            text = json.dumps(sorted(line.split(":")[0].strip() for line in file if ":" in line))
    elif name == "grow":
        EXTRA.append(args["name"])
        for _ in range(args.get("times", 1)):
            notify("notifications/tools/list_changed")
    elif name == "touch":
        notify("notifications/resources/updated", {"uri": args["uri"]})
    elif name == "close":
        os.close(1)
        time.sleep(30)
    elif name == "sleep":
        time.sleep(args["seconds"])
    result(
        of,
        {
            "content": [{"type": "text", "text": text or json.dumps(args), "vendor": 1}],
            "_meta": {"kept": True},
        },
    )


FORKED = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGHUP, signal.SIG_IGN)
time.sleep(600)
"""
MODERN_INFO = {PROTOCOL + "serverInfo": {"name": "scripted", "version": "1"}}


def take(message: Json) -> None:
    method, of = message.get("method"), message.get("id")
    params: Json = message.get("params") or {}
    if method is None:
        ANSWERS[str(of)] = message
        return
    write_log(f"{method} {json.dumps(params, sort_keys=True)}")
    if method == "notifications/cancelled":
        CANCELLED.add(params["requestId"])
    if of is None:
        return
    probe = SET.get("probe", "")
    if method == "server/discover" and ERA == "legacy":
        if probe:
            sys.stderr.write("line 1 of a fault\nline 2 of a fault\n")
            sys.stderr.flush()
        if probe == "die":
            os._exit(1)
        if probe != "hang":
            error(of, int(probe.partition(":")[2] or -32601))
    elif method == "server/discover":
        version = params["_meta"][PROTOCOL + "protocolVersion"]
        if version != VERSION:
            error(of, -32022, data={"supported": [VERSION], "requested": version})
        else:
            result(
                of,
                {
                    "supportedVersions": [VERSION],
                    "capabilities": CAPABILITIES,
                    "instructions": "do",
                    "_meta": MODERN_INFO,
                },
            )
    elif method == "initialize":
        if ERA == "modern":
            error(of, -32022, data={"supported": [VERSION]})
        else:
            result(
                of,
                {
                    "protocolVersion": VERSION,
                    "capabilities": CAPABILITIES,
                    "serverInfo": {"name": "scripted", "version": "1"},
                    "instructions": "do",
                },
            )
    elif ERA == "modern" and PROTOCOL + "protocolVersion" not in params.get("_meta", {}):
        error(of, -32602, "no envelope")
    elif method == SET.get("missing"):
        error(of, -32601)
    elif method == SET.get("empty"):
        result(of, {"tools": "none"})
    elif method == "tools/list":
        result(of, tools(params))
    elif method == "prompts/list":
        result(of, {"prompts": [{"name": "hello"}]})
    elif method == "resources/list":
        result(of, {"resources": [{"uri": "a://b", "name": "b"}]})
    elif method == "resources/templates/list":
        result(of, {"resourceTemplates": []})
    elif method == "subscriptions/listen":
        notify(
            "notifications/subscriptions/acknowledged",
            {"notifications": params["notifications"], "_meta": {PROTOCOL + "subscriptionId": of}},
        )
    elif method == "tools/call":
        threading.Thread(target=call, args=(message,), daemon=True).start()
    else:
        result(of, {})


def main() -> None:
    write_log(f"start {os.getpid()}")
    start = SET.get("start", "")
    if "term" in SET.get("ignore", ""):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if start == "exit":
        sys.stderr.write("why it ends\n")
        sys.stderr.flush()
        sys.exit(3)
    if start == "rubbish":
        print("Welcome to the server!")
    if start == "flood":
        while True:
            sys.stdout.write("x" * 1_000_000)
    if start.startswith("slow:"):
        time.sleep(float(start[5:]))
    if "fork" in SET:
        subprocess.Popen([sys.executable, "-S", "-E", "-c", FORKED])
    for line in sys.stdin:
        take(json.loads(line))
    if "eof" in SET.get("ignore", ""):
        time.sleep(600)


main()
