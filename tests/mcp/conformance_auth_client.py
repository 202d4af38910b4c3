"""The client that the conformance suite is given in its scenarios of OAuth: the gateway in front of
the suite's server, and the owner of the host, who signs in with `modelplex mcp login` when a call
says so.

`python -m tests.mcp.conformance_auth_client URL`, as the suite starts it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.gateways import Running, gateway
from tests.mcp.authorization import modelplex

DOCUMENT = "https://conformance-test.local/client-metadata.json"
"""The address of a client ID metadata document that the suite expects."""
SIGN_INS = 2
"""How often the owner follows the hint: a server that asks a third time gets no answer."""


def config(url: str, context: dict[str, Any], folder: Path) -> str:
    auth = {"type": "oauth", "client_metadata": DOCUMENT}
    for name in ("client_id", "client_secret", "issuer"):
        if name in context:
            auth[name] = context[name]
    if os.environ["MCP_CONFORMANCE_SCENARIO"].startswith("auth/client-credentials"):
        auth["grant"] = "client_credentials"
    if "valid_jwt" in context:
        assertion = folder / "assertion"
        assertion.write_text(context["valid_jwt"])
        auth |= {"grant": "jwt_bearer", "assertion_file": str(assertion)}
    if "private_key_pem" in context:
        key = folder / "key.pem"
        key.write_text(context["private_key_pem"])
        auth["private_key_file"] = str(key)
    rows = ", ".join(f"{name} = {json.dumps(value)}" for name, value in auth.items())
    return f'[mcp]\nenabled = true\npinning = "off"\n\n[[mcp.servers]]\nname = "conf"\nurl = "{url}"\nauth = {{ {rows} }}\n'


async def call(running: Running) -> tuple[bool, str]:
    """Whether the tool answered, and what the agent was told."""
    answer = await running.ask("POST", "/mcp/v1/tools/conf__test-tool/call", {"arguments": {}}, unix=True)
    return "content" in answer.json, answer.body.decode()


async def main(url: str) -> int:
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    calls = 2 if os.environ["MCP_CONFORMANCE_SCENARIO"] == "auth/authorization-server-migration" else 1
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        async with gateway(config(url, context, folder), folder=folder) as running:
            answered, sign_ins = False, 0
            while calls:
                answered, said = await call(running)
                print(said, file=sys.stderr)
                if answered:
                    calls -= 1
                elif "modelplex mcp login conf" in said and sign_ins < SIGN_INS:
                    sign_ins += 1
                    print(await modelplex(folder, "mcp", "login", "conf"), file=sys.stderr)
                else:
                    break
    return 0 if answered else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[-1])))
