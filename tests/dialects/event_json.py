"""Events as JSON, for the transcripts of what is read from responses.

`UPDATE_TRANSCRIPTS=1 pytest tests/dialects -k test_response_in` writes what is read today; read the
diff.
"""

import json
import os
from pathlib import Path
from typing import Any, cast

import msgspec

from modelplex.core.events import Event, ResponseFailed, ResponseStarted, UsageReported

UPDATE = bool(os.environ.get("UPDATE_TRANSCRIPTS"))


def event_json(event: Event) -> dict[str, Any]:
    """An event, without the fields that have their default. The provider's usage object is shown as
    an object.
    """
    if isinstance(event, ResponseFailed):
        error = event.error
        told = {"code": error.code, "type": error.upstream.type, "message": error.message}
        return {"ResponseFailed": {type(error).__name__: told}}
    default = {field.name: field.default for field in msgspec.structs.fields(event)}
    fields = {name: value for name, value in msgspec.structs.asdict(event).items() if value != default[name]}
    shown = cast("dict[str, Any]", json.loads(msgspec.json.encode(fields)))
    usage = event.usage if isinstance(event, (ResponseStarted, UsageReported)) else None
    if usage is not None and usage.raw is not None:
        shown["usage"]["raw"] = json.loads(usage.raw)
    return {type(event).__name__: shown}


def expect(events: list[dict[str, Any]], file: Path) -> None:
    """Compares events with a transcript, or writes it where UPDATE_TRANSCRIPTS is set."""
    if UPDATE:
        file.write_text("".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events))
    assert events == [json.loads(line) for line in file.read_text().splitlines()]
