"""The forms of the proxy by their configuration."""

from __future__ import annotations

from proxy.model import Proxy, ProxyConfig
from proxy.plain import PlainProxy

Network = Proxy | PlainProxy


def network_for(config: ProxyConfig) -> Network:
    """The untrained network of a configuration."""
    return Proxy(config) if config.form == "base" else PlainProxy(config)
