"""Settings, from a TOML file and the environment to frozen types.

Above it stand `cli`, `serve` and whatever is configured; below it the vocabulary. `settings.py` is what others hold in their hands, and
`load` is the only function here that reads a file. It opens no socket and starts nothing.
"""

from modelplex.config.faults import ConfigError, ConfigFault
from modelplex.config.secret import HIDDEN, Secret, hide
from modelplex.config.settings import (
    DEFAULT_HTTP,
    Config,
    FailoverConfig,
    LogConfig,
    McpConfig,
    McpServer,
    ProviderConfig,
    Server,
    TypeFacts,
)

__all__ = [
    "DEFAULT_HTTP",
    "HIDDEN",
    "Config",
    "ConfigError",
    "ConfigFault",
    "FailoverConfig",
    "LogConfig",
    "McpConfig",
    "McpServer",
    "ProviderConfig",
    "Secret",
    "Server",
    "TypeFacts",
    "hide",
]
