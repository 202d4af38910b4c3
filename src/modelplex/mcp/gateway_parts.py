"""What the parts of the tool gateway share."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modelplex.mcp.call_recording import CallRecording
from modelplex.mcp.checked_catalogs import Report
from modelplex.mcp.relay import Relay
from modelplex.mcp.replay import ToolReplay
from modelplex.mcp.routing import ToolRoutes
from modelplex.mcp.tasks import Tasks
from modelplex.mcp.tool_server import ToolServer


class GatewayParts(msgspec.Struct, frozen=True, kw_only=True):
    """`report` takes a server's name and a sentence about it, for the log."""

    upstreams: Mapping[str, ToolServer]
    routes: ToolRoutes
    relay: Relay
    tasks: Tasks
    recording: CallRecording
    replay: ToolReplay
    report: Report
