"""Another configuration for a daemon that works: read again, checked, with a client of its own."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from venice_watch.config.model import Api, Config
from venice_watch.errors import VeniceWatchError
from venice_watch.venice.client import VeniceClient

Load = Callable[[], tuple[Config, str]]  # blocks; the configuration and the key


class NeedsRestartError(VeniceWatchError):
    """A change that a running daemon cannot take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration that may hold from now on."""

    config: Config
    key: str
    asks_anew: bool  # by another key, or at another address


def client_for(api: Api, key: str) -> VeniceClient:
    """Return a client for a configuration's API."""
    return VeniceClient.for_api(api, key, connections_max=api.concurrency)


class Reloader:
    """Reads the configuration again, and makes another client where that needs one."""

    def __init__(self, load: Load, config: Config, key: str, client: VeniceClient) -> None:
        self._load = load
        self._api, self._key, self._client = config.api, key, client

    async def load(self, before: Config) -> Loaded:
        """Return what the file says now.

        Raises ConfigError, KeyUnusableError or NeedsRestartError: then nothing has changed.
        """
        config, key = await asyncio.to_thread(self._load)
        if config.state_dir != before.state_dir:
            raise NeedsRestartError(
                f"state_dir is {before.state_dir} now and would be {config.state_dir}: that takes "
                "a restart. Restart venice-watch, or take the change back."
            )
        anew = (config.api.base_url, key) != (self._api.base_url, self._key)
        return Loaded(config=config, key=key, asks_anew=anew)

    def client_for(self, loaded: Loaded) -> VeniceClient:
        """Return the client to use from now on.

        The one from before is nobody's to close while requests are under way, and need not be: it
        keeps no connection, and goes with the last image that uses it.
        """
        api = loaded.config.api
        same = (api.base_url, api.timeouts, api.concurrency, loaded.key) == (
            self._api.base_url,
            self._api.timeouts,
            self._api.concurrency,
            self._key,
        )
        if not same:
            self._client = client_for(api, loaded.key)
        self._api, self._key = api, loaded.key
        return self._client
