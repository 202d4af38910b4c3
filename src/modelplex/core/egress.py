"""Egress facts of a type of provider: data of the provider catalog that the sealed policy reads."""

from __future__ import annotations

import msgspec


class EgressFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What the models of one type of provider do by default.

    searching_models  regular expression over model names: these search the web by themselves
    switches          by dialect: top-level members of every sealed body
    """

    searching_models: str = ""
    switches: dict[str, dict[str, bool]] = {}
