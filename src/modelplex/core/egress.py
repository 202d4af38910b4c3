"""Egress facts of a type of provider: data of the provider catalog that the sealed policy reads."""

from __future__ import annotations

import msgspec


class EgressFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the models of one type of provider do unless they are told otherwise.

    searching_models    regular expression over model names: these search the web by themselves
    search_off_models   the same: these search by default and are served all the same, since
                        `switches` turns the search off in each request
    switches            by dialect: members that stand at the top of every sealed body
    """

    searching_models: str = ""
    search_off_models: str = ""
    switches: dict[str, dict[str, bool]] = {}
