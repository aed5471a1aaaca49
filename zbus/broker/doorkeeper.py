"""The broker's keys in force, and who watches the authenticator (promises P16, P19).

Rules of this room:

* Keys are read before anything is bound: what cannot be read refuses the start. A reload is
  judged whole before any of it holds; what is wrong with it leaves the old.
* A reload may change ``[policy]`` and whom ``security.trust`` holds. Whatever else has changed
  takes a restart, which is a pause, and refuses the reload.
* An authenticator that has died lets nobody in. It is begun again, and its death is an error in
  the log.
"""

from __future__ import annotations

import logging

from zbus.broker.keys import SecretKey, Trust, read_secret, read_trust
from zbus.broker.settings import SETTINGS, Settings
from zbus.broker.zap import Authenticator, Table
from zbus.errors import ConfigError, ZbusError
from zbus.transport.guard import ServerGuard
from zbus.transport.sockets import ZmqNetwork

__all__ = ["Doorkeeper"]

_RELOADABLE = "policy"
_logger = logging.getLogger("zbus.broker")


class Doorkeeper:
    """Reads the keys of these settings, and lets their owners in.

    Raises:
        ConfigError: a key or the directory of trust cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._key = _key(settings)
        self._table = _table(settings)
        self._authenticator: Authenticator | None = None

    @property
    def guard(self) -> ServerGuard:
        """For the broker's sockets."""
        return ServerGuard(secret=self._key.secret if self._key else "")

    def name_of(self, public: str) -> str | None:
        """The name of a key that is trusted now."""
        return self._table.trust.name_of(public)

    def open(self, network: ZmqNetwork) -> None:
        """Let people in; to be called before anything of this network is bound."""
        self._authenticator = Authenticator(network.context, self._table)
        self._authenticator.start()

    def watch(self) -> None:
        """Begin again, if the authenticator has died; nobody was let in since."""
        authenticator = self._authenticator
        if authenticator is not None and not authenticator.is_alive:
            _logger.error("authenticator_died")
            try:
                authenticator.start()
            except ZbusError as error:
                _logger.error("authenticator_not_started", extra={"fields": {"why": error.what}})

    def reload(self, settings: Settings) -> None:
        """Take these settings and their keys over, whole.

        Raises:
            ConfigError: they cannot be; the old ones still hold.
        """
        changed = [
            setting.key
            for setting in SETTINGS
            if setting.section != _RELOADABLE and setting.of(settings) != setting.of(self.settings)
        ]
        if not changed and _key(settings) != self._key:
            changed.append("what security.key holds")
        if changed:
            raise ConfigError(f"{', '.join(changed)} has changed, which takes a restart")
        table = _table(settings)
        self.settings, self._table = settings, table
        if self._authenticator is not None:
            self._authenticator.table = table

    def close(self) -> None:
        """Let nobody in any more; to be called before the network is closed."""
        if self._authenticator is not None:
            self._authenticator.stop()


def _key(settings: Settings) -> SecretKey | None:
    path = settings.security.key
    return None if path is None else read_secret(path)


def _table(settings: Settings) -> Table:
    path = settings.security.trust
    trust = Trust() if path is None else read_trust(path)
    insecure = settings.listen.insecure and settings.security.key is None
    return Table(trust, insecure)
