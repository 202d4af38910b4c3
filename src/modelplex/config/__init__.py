"""Settings: a TOML file and the environment as frozen types.

`settings.py` has the types; `load.py` does the I/O. Starts nothing; there is no global settings
object.
"""

from modelplex.config.address import DEFAULT_HOST, default_host, http_address
from modelplex.config.detected import config_without_file, describe, ollama_url
from modelplex.config.load import load, load_without_file, provider_types
from modelplex.config.mcp_settings import McpConfig, McpServer
from modelplex.config.problems import ConfigError, ConfigFault
from modelplex.config.read import parse
from modelplex.config.secret import HIDDEN, Secret, hide
from modelplex.config.settings import (
    DEFAULT_HTTP,
    AdminConfig,
    AgentConfig,
    AllowConfig,
    BudgetConfig,
    CacheConfig,
    Config,
    FailoverConfig,
    LogConfig,
    PackagesConfig,
    PolicyConfig,
    PriceConfig,
    ProviderConfig,
    RateConfig,
    RecordConfig,
    ServerConfig,
    SharedConfig,
    TypeFacts,
)
from modelplex.config.summary import redacted

__all__ = [
    "DEFAULT_HOST",
    "DEFAULT_HTTP",
    "HIDDEN",
    "AdminConfig",
    "AgentConfig",
    "AllowConfig",
    "BudgetConfig",
    "CacheConfig",
    "Config",
    "ConfigError",
    "ConfigFault",
    "FailoverConfig",
    "LogConfig",
    "McpConfig",
    "McpServer",
    "PackagesConfig",
    "PolicyConfig",
    "PriceConfig",
    "ProviderConfig",
    "RateConfig",
    "RecordConfig",
    "Secret",
    "ServerConfig",
    "SharedConfig",
    "TypeFacts",
    "config_without_file",
    "default_host",
    "describe",
    "hide",
    "http_address",
    "load",
    "load_without_file",
    "ollama_url",
    "parse",
    "provider_types",
    "redacted",
]
