"""Settings, from a TOML file and the environment to frozen types.

Above it stand `cli`, `serve` and whatever is configured; below it the vocabulary. `settings.py` is
what others hold in their hands, and `load.py` alone reads the file and knocks at Ollama's port.
Nothing is started here, and there is no global settings object.
"""

from modelplex.config.address import DEFAULT_HOST, default_host, http_address
from modelplex.config.detected import describe, embedded, ollama_url
from modelplex.config.load import load, load_without_file, provider_types
from modelplex.config.one import on_one_socket
from modelplex.config.problems import ConfigError, ConfigFault
from modelplex.config.read import parse
from modelplex.config.redacted import redacted
from modelplex.config.secret import HIDDEN, Secret, hide
from modelplex.config.settings import (
    DEFAULT_HTTP,
    AgentConfig,
    AllowConfig,
    BudgetConfig,
    Config,
    FailoverConfig,
    LogConfig,
    McpConfig,
    McpServer,
    PolicyConfig,
    PriceConfig,
    ProviderConfig,
    RateConfig,
    ServerConfig,
    TypeFacts,
)

__all__ = [
    "DEFAULT_HOST",
    "DEFAULT_HTTP",
    "HIDDEN",
    "AgentConfig",
    "AllowConfig",
    "BudgetConfig",
    "Config",
    "ConfigError",
    "ConfigFault",
    "FailoverConfig",
    "LogConfig",
    "McpConfig",
    "McpServer",
    "PolicyConfig",
    "PriceConfig",
    "ProviderConfig",
    "RateConfig",
    "Secret",
    "ServerConfig",
    "TypeFacts",
    "default_host",
    "describe",
    "embedded",
    "hide",
    "http_address",
    "load",
    "load_without_file",
    "ollama_url",
    "on_one_socket",
    "parse",
    "provider_types",
    "redacted",
]
