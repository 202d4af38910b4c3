"""The config of a LiteLLM proxy as one of Modelplex. PURE.

Deployments that share a service, an address and a key become a provider; names that callers use
become aliases, with their fallbacks after them. Source of the form:
https://docs.litellm.ai/docs/proxy/configs
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from modelplex.imports.notes import Json, Notes
from modelplex.imports.servers import convert
from modelplex.providers import all_specs

TYPES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("custom_openai", "openai_like", "text-completion-openai", "litellm_proxy"), "openai"),
    "ollama_chat": "ollama",
    "cohere_chat": "cohere",
    "fireworks_ai": "fireworks",
    "hosted_vllm": "vllm",
    "lm_studio": "lmstudio",
    "llamafile": "llamacpp",
    "nvidia_nim": "nvidia",
    "together_ai": "together",
}
"""LiteLLM's names of services that have another name here."""
WITHOUT_PREFIX: Final[Mapping[str, str]] = {
    "claude": "anthropic",
    "gemini": "gemini",
    **dict.fromkeys(
        ("gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-", "whisper-", "tts-", "dall-e"), "openai"
    ),
}
"""How the names of models begin that LiteLLM knows without their service."""
SHORTEST_KEY: Final = 8
"""Shorter keys are placeholders such as "none", which local servers are given."""
PER_MILLION: Final = 1_000_000

READ_PARAMS: Final = frozenset(
    "model custom_llm_provider api_key api_base base_url api_version extra_headers headers".split()
)
PRICES: Final = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached_input",
    "cache_creation_input_token_cost": "cache_write",
}
FALLBACKS: Final = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
SILENT: Final = frozenset({"drop_params", "set_verbose", "json_logs", "telemetry"})
"""Settings of the proxy whose effect is usual here, or that concern its own output."""


class _Import:
    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self.providers: dict[tuple[str, ...], Json] = {}
        self.every_model: set[str] = set()
        """Providers of which a wildcard wants every model."""
        self.targets: dict[str, list[str]] = {}
        """The candidates of each name that callers use, in their order."""
        self.prices: list[Json] = []

    def deployment(self, index: int, entry: Json) -> None:
        params = _object(entry.get("litellm_params"))
        name, model = str(entry.get("model_name") or ""), str(params.get("model") or "")
        where = f"model_list[{index}] ({name or model})"
        kind, own = self._kind(model, params)
        if kind is None:
            self.notes.add(where, f"left out, since there is no provider for {model}")
            return
        provider = self._provider(kind, params, where)
        if own == "*" or own.endswith("/*"):
            self.every_model.add(provider["name"])
        elif own not in provider["models"]:
            provider["models"].append(own)
        if not own.endswith("*"):
            target = f"{provider['name']}/{own}"
            if name and target not in self.targets.setdefault(name, []):
                self.targets[name].append(target)
        elif name not in {model, "*", own}:
            self.notes.add(where, f"the name {name} was not carried: an alias needs the name of a model")
        self._lost(where, params, _object(entry.get("model_info")), provider["name"], own)

    def _kind(self, model: str, params: Json) -> tuple[str | None, str]:
        """The type of a provider, and its own name of the model."""
        prefix, slash, rest = model.partition("/")
        service = str(params.get("custom_llm_provider") or "")
        known = all_specs()
        for word, own in (
            (service, rest if prefix == service and slash else model),
            (prefix if slash else "", rest),
        ):
            kind = TYPES.get(word, word)
            # LiteLLM reaches clouds by their own APIs, under other names of models.
            if kind in known and own and not known[kind].credentials:
                return kind, own
        if slash or service:
            return None, model
        begin = next((kind for start, kind in WITHOUT_PREFIX.items() if model.startswith(start)), None)
        return begin or ("openai" if params.get("api_base") or params.get("base_url") else None), model

    def _provider(self, kind: str, params: Json, where: str) -> Json:
        spec = all_specs()[kind]
        url = params.get("api_base") or params.get("base_url")
        members: Json = {
            "type": kind,
            "base_url": self.notes.text(url, where=where).rstrip("/") if url else None,
            "api_key": self._key(params.get("api_key"), spec.key_env, where),
            "api_version": params.get("api_version"),
        }
        if url and members["api_key"] is None and spec.key_env is not None and not spec.local:
            # Its usual variable is used at the service's own address only.
            members["api_key"] = self.notes.need(spec.key_env)
        headers = _object(params.get("extra_headers") or params.get("headers"))
        if headers:
            members["headers"] = {
                key: self.notes.text(each, where=where, name=key, variable=f"{kind}_{key}")
                for key, each in headers.items()
            }
        key = tuple(map(str, members.values()))
        if key not in self.providers:
            taken = {each["name"] for each in self.providers.values()}
            number = next(n for n in range(1, len(taken) + 2) if _numbered(kind, n) not in taken)
            self.providers[key] = {"name": _numbered(kind, number), **members, "models": []}
        return self.providers[key]

    def _key(self, written: object, variable: str | None, where: str) -> str | None:
        if not isinstance(written, str) or not written:
            return None
        text = self.notes.text(
            written,
            where=where,
            name="api_key" if len(written) >= SHORTEST_KEY else "",
            variable=variable or "API_KEY",
        )
        return None if text == f"${{{variable}}}" and written.startswith("os.environ/") else text

    def _lost(self, where: str, params: Json, info: Json, provider: str, model: str) -> None:
        price = {
            ours: float(value) * PER_MILLION
            for theirs, ours in PRICES.items()
            if isinstance(value := params.get(theirs, info.get(theirs)), (int, float))
        }
        if {"input", "output"} <= price.keys():
            self.prices.append({"model": model, "provider": provider, **price})
        lost = sorted(params.keys() - READ_PARAMS - PRICES.keys()) + sorted(
            info.keys() - PRICES.keys() - {"mode", "id"}
        )
        if lost:
            self.notes.add(where, f"not carried: {', '.join(lost)}")

    # --- what stands beside the models

    def aliases(self, router: Json, settings: Json) -> dict[str, list[str]]:
        for name, target in _object(router.get("model_group_alias")).items():
            model = _object(target).get("model", target)
            if model in self.targets:
                self.targets[name] = list(self.targets[model])
            else:
                self.notes.add(f"model_group_alias.{name}", f"not carried: {model} is no name of model_list")
        own = {name: list(targets) for name, targets in self.targets.items()}
        for where, name, others in _fallbacks(router, settings):
            for other in others:
                if name not in own or other not in own:
                    self.notes.add(f"{where}.{name}", f"the fallback {other} was not carried")
                    continue
                self.targets[name] += [each for each in own[other] if each not in self.targets[name]]
        for other in _list(settings.get("default_fallbacks") or router.get("default_fallbacks")):
            for name, targets in self.targets.items():
                targets += [each for each in own.get(str(other), []) if each not in targets and name != other]
        return {name: targets for name, targets in self.targets.items() if not self._is_plain(name, targets)}

    def _is_plain(self, name: str, targets: Sequence[str]) -> bool:
        """Whether the name means the same without an alias: one provider serves it so."""
        serving = [each["name"] for each in self.providers.values() if name in each["models"]]
        return len(targets) == 1 and [f"{each}/{name}" for each in serving] == list(targets)


def _numbered(kind: str, number: int) -> str:
    return kind if number == 1 else f"{kind}-{number}"


def _fallbacks(router: Json, settings: Json) -> Iterator[tuple[str, str, list[str]]]:
    for section, table in (("litellm_settings", settings), ("router_settings", router)):
        for key in FALLBACKS:
            for each in _list(table.get(key)):
                for name, others in _object(each).items():
                    yield f"{section}.{key}", name, [str(other) for other in _list(others)]


def read(document: Json, notes: Notes) -> list[tuple[str, Json]]:
    """The tables of a config, each with its heading."""
    made = _Import(notes)
    for index, entry in enumerate(_list(document.get("model_list"))):
        made.deployment(index, _object(entry))
    router, settings = _object(document.get("router_settings")), _object(document.get("litellm_settings"))
    for name, targets in made.targets.items():
        if len(targets) > 1:
            notes.add(name, "its deployments are tried in their order here; LiteLLM spreads calls over them")
    aliases = made.aliases(router, settings)
    tables: list[tuple[str, Json]] = []
    for each in made.providers.values():
        models = None if each["name"] in made.every_model else each["models"]
        tables.append(("[[providers]]", {**each, "models": models}))
    if aliases:
        tables.append(("[aliases]", {n: t[0] if len(t) == 1 else t for n, t in aliases.items()}))
    retries = router.get("num_retries", settings.get("num_retries"))
    if isinstance(retries, int) and retries >= 0:
        tables.append(("[failover]", {"retries": retries}))
    tables += [("[[prices]]", each) for each in made.prices]
    servers = _object(document.get("mcp_servers"))
    if servers:
        tables.append(("[mcp]", {"enabled": True}))
        tables += [("[[mcp.servers]]", each) for each in convert(servers, notes)]
    _name_lost(document, router, settings, notes)
    return tables


def _name_lost(document: Json, router: Json, settings: Json, notes: Notes) -> None:
    read_here = {*FALLBACKS, "default_fallbacks", "num_retries", "model_group_alias"} | SILENT
    for section, table in (("router_settings", router), ("litellm_settings", settings)):
        if lost := sorted(table.keys() - read_here):
            notes.add(section, f"not carried: {', '.join(lost)}")
    general = _object(document.get("general_settings"))
    if general.pop("master_key", None) is not None:
        notes.add(
            "general_settings.master_key",
            "not carried: callers of a socket need no key; give each agent of HTTP a token in [[agents]]",
        )
    if lost := sorted(general):
        notes.add("general_settings", f"not carried: {', '.join(lost)}")
    for name in _object(document.get("environment_variables")):
        notes.add(f"environment_variables.{name}", "not carried: set it in the environment of the gateway")
    known = {"model_list", "router_settings", "litellm_settings", "general_settings", "environment_variables"}
    for name in sorted(document.keys() - known - {"mcp_servers"}):
        notes.add(name, "not carried")


def _object(value: Any) -> Json:
    return dict(cast("Json", value)) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]
