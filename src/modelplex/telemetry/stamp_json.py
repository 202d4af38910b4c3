"""Sets the gateway's attributes on each resource of an OTLP/JSON request. Pure.

Only members of the specification are written, by their one spelling: a collector that also reads
`resource_spans` gets none that is not stamped. What scopes hold passes unread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from modelplex.telemetry.signals import MEMBERS, RESERVED, SERVICE, SERVICE_KEY, BadTelemetry, Signal

_RESOURCE_MEMBERS: Final = ("droppedAttributesCount", "entityRefs")


class _Attribute(msgspec.Struct, frozen=True):
    key: str
    value: msgspec.Raw = msgspec.Raw(b"{}")


_top = msgspec.json.Decoder(dict[str, msgspec.Raw])
_entries = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_attributes = msgspec.json.Decoder(list[_Attribute])
_any = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode


def stamp(body: bytes, signal: Signal, attributes: Mapping[str, str]) -> bytes:
    """Raises BadTelemetry."""
    names = MEMBERS[signal]
    ours = [_Attribute(key, _raw({"stringValue": value})) for key, value in attributes.items()]
    try:
        found = _top.decode(body).get(names.resources)
        entries = [] if found is None else _entries.decode(found)
        written = [_entry(each, names.scopes, ours) for each in entries]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadTelemetry(f"the body is no OTLP in JSON: {error}") from None
    return _encode({names.resources: written} if written else {})


def _entry(
    entry: Mapping[str, msgspec.Raw], scopes: str, ours: list[_Attribute]
) -> dict[str, msgspec.Raw | dict[str, object]]:
    raw = entry.get("resource")
    resource = {} if raw is None else _top.decode(raw)
    theirs = _attributes.decode(resource["attributes"]) if "attributes" in resource else []
    stamped: dict[str, object] = {name: resource[name] for name in _RESOURCE_MEMBERS if name in resource}
    stamped["attributes"] = [*(each for each in theirs if not _is_reserved(each)), *ours]
    kept: dict[str, msgspec.Raw | dict[str, object]] = {
        name: entry[name] for name in (scopes, "schemaUrl") if name in entry
    }
    return {"resource": stamped, **kept}


def _is_reserved(attribute: _Attribute) -> bool:
    if attribute.key != SERVICE_KEY:
        return attribute.key.startswith(RESERVED)
    return bool(_any.decode(attribute.value) == {"stringValue": SERVICE})


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(_encode(value))
