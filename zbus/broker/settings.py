"""What a broker is configured with, put together from files, environment and flags.

Rules of this room:

* ``SETTINGS`` lists every setting that ``sections`` declares: for the flags of the command
  line, for ``config show``, and for the commented ``deploy/zbus.toml``.
* Precedence, strongest first: flag, ``ZBUS_*``, the file of ``--config``, ``conf.d/*.toml``
  (the last name wins), ``zbus.toml``, default.
* A configuration is valid as a whole or refused as a whole, with every problem that was found
  (``ConfigError``); nothing opens by accident (promise P16).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from zbus.broker.forms import Form
from zbus.broker.origins import DEFAULT, Layers, flag_of, variable_of
from zbus.broker.sections import (
    DOORS,
    BrokerSection,
    GovernorSection,
    LimitsSection,
    ListenSection,
    LogSection,
    PolicySection,
    SecuritySection,
    TimesSection,
)
from zbus.errors import ConfigError
from zbus.protocol.limits import Limits
from zbus.transport.endpoints import (
    broker_endpoint,
    check_endpoint,
    check_listening,
    default_runtime_dir,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "SETTINGS",
    "Loaded",
    "Row",
    "Setting",
    "Settings",
    "load",
]

S = TypeVar("S", bound="DataclassInstance")
_ETC = Path("/etc/zbus")
_BODIES_MIN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a broker is configured with. ``bounds`` is the section ``[limits]``."""

    broker: BrokerSection = field(default_factory=BrokerSection)
    listen: ListenSection = field(default_factory=ListenSection)
    times: TimesSection = field(default_factory=TimesSection)
    bounds: LimitsSection = field(default_factory=LimitsSection)
    governor: GovernorSection = field(default_factory=GovernorSection)
    security: SecuritySection = field(default_factory=SecuritySection)
    policy: PolicySection = field(default_factory=PolicySection)
    log: LogSection = field(default_factory=LogSection)

    def limits(self) -> Limits:
        """The part that the protocol's machines are given."""
        return Limits(
            heartbeat_s=self.times.heartbeat_s,
            peers=self.bounds.peers,
            body_max_bytes=self.bounds.body_max_bytes,
            object_max_bytes=self.bounds.object_max_bytes,
            open_requests=self.bounds.open_requests,
            window=self.bounds.window,
            push_window=self.bounds.push_window,
            outbox_bytes=self.bounds.outbox_bytes,
            target_bytes=self.bounds.target_bytes,
            memory_bytes=self.bounds.memory_bytes,
            slow_s=self.bounds.slow_s,
            poison_kills=self.bounds.poison_kills,
            restart_settle_s=self.bounds.restart_settle_s,
        )


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: ``key`` in the file, ``attribute`` of ``section`` in ``Settings``."""

    key: str
    section: str
    attribute: str
    default: object
    form: Form[object]
    text: str

    @property
    def flag(self) -> str:
        """Its flag on the command line."""
        return flag_of(self.key)

    @property
    def variable(self) -> str:
        """Its variable in the environment."""
        return variable_of(self.key)

    def of(self, settings: Settings) -> object:
        """Its value."""
        value: object = getattr(getattr(settings, self.section), self.attribute)
        return value


class Row(NamedTuple):
    """One setting in force: its value as TOML, and who set it."""

    key: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration, and where each setting came from, by dotted key."""

    settings: Settings
    origins: Mapping[str, str]

    def rows(self) -> Iterator[Row]:
        """What ``zbus config show --origin`` prints, in the order of the file."""
        for setting in SETTINGS:
            value = setting.form.show(setting.of(self.settings))
            yield Row(setting.key, value, self.origins[setting.key])


def _declared() -> Iterator[Setting]:
    defaults = Settings()
    for part in fields(defaults):
        title = "limits" if part.name == "bounds" else part.name
        for one in fields(getattr(defaults, part.name)):
            key = f"{title}.{one.name.removesuffix('_s').removesuffix('_bytes')}"
            form, text = one.metadata["form"], one.metadata["text"]
            yield Setting(key, part.name, one.name, one.default, form, text)


SETTINGS = tuple(_declared())
"""Every setting, in the order of the file."""


def load(
    *,
    flags: Mapping[str, object] | None = None,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    uid: int | None = None,
    etc: Path = _ETC,
) -> Loaded:
    """The configuration in force, or ``ConfigError`` with everything that is wrong with it.

    ``flags`` maps dotted keys to what the command line said (None: nothing). ``environ``,
    ``uid`` and ``etc`` are this process's and this machine's unless given.
    """
    environ = os.environ if environ is None else environ
    layers = Layers([setting.key for setting in SETTINGS])
    layers.add_etc(etc)
    if config is not None:
        layers.add_file(config)
    layers.add_environment(environ)
    layers.add_flags(flags or {})
    values, origins = _read(layers)
    place = default_runtime_dir(environ, os.getuid() if uid is None else uid)
    loaded = Loaded(_settings({"broker.runtime_dir": place} | values), origins)
    problems = layers.problems or list(_cross_problems(loaded))
    if problems:
        raise ConfigError(_story(list(dict.fromkeys(problems))))
    return loaded


def _read(layers: Layers) -> tuple[dict[str, object], dict[str, str]]:
    """The strongest value of each key and its origin; what does not fit becomes a problem."""
    table = {setting.key: setting for setting in SETTINGS}
    values: dict[str, object] = {}
    origins = dict.fromkeys(table, DEFAULT)
    for written in layers.written:
        form = table[written.key].form
        try:
            values[written.key] = (
                form.read_text(str(written.value)) if written.textual else form.read(written.value)
            )
            origins[written.key] = written.origin
        except ValueError as error:
            layers.problems.append(f"{written}: {error}; wanted: {form.expected}")
    return values, origins


def _settings(values: Mapping[str, object]) -> Settings:
    base = Settings()
    place = values["broker.runtime_dir"]
    if isinstance(place, Path):
        doors = {f"listen.{door}": (broker_endpoint(place, door),) for door in DOORS}
        values = doors | dict(values)
    return Settings(
        broker=_filled("broker", base.broker, values),
        listen=_filled("listen", base.listen, values),
        times=_filled("times", base.times, values),
        bounds=_filled("bounds", base.bounds, values),
        governor=_filled("governor", base.governor, values),
        security=_filled("security", base.security, values),
        policy=_filled("policy", base.policy, values),
        log=_filled("log", base.log, values),
    )


def _filled(name: str, section: S, values: Mapping[str, object]) -> S:
    changes = {
        setting.attribute: values[setting.key]
        for setting in SETTINGS
        if setting.section == name and setting.key in values
    }
    return replace(section, **changes)


def _cross_problems(loaded: Loaded) -> Iterator[str]:
    """What no single value is to blame for."""
    bounds, origins = loaded.settings.bounds, loaded.origins
    yield from _endpoint_problems(loaded)
    yield from _key_problems(loaded)
    if bounds.outbox_bytes < bounds.body_max_bytes:
        yield (
            f"{origins['limits.outbox']}: limits.outbox is below limits.body_max "
            f"({origins['limits.body_max']}), so that the largest body could never be sent"
        )
    if bounds.target_bytes > bounds.outbox_bytes:
        yield (
            f"{origins['limits.target']}: limits.target is above limits.outbox "
            f"({origins['limits.outbox']}), so that requests could have their handler cut"
        )
    if bounds.memory_bytes < _BODIES_MIN * bounds.body_max_bytes:
        yield (
            f"{origins['limits.memory']}: limits.memory is below {_BODIES_MIN} times "
            f"limits.body_max ({origins['limits.body_max']}), so that one peer that does not read "
            "could keep the largest body from all others"
        )


def _endpoint_problems(loaded: Loaded) -> Iterator[str]:
    listen = loaded.settings.listen
    secure = loaded.settings.security.key is not None
    seen: dict[str, str] = {}
    for door in DOORS:
        where = _blame(loaded, f"listen.{door}")
        for endpoint in getattr(listen, door):
            try:
                check_endpoint(endpoint)  # one that follows from runtime_dir was not read
                check_listening(endpoint, listen.insecure, secure)
            except ValueError as error:
                yield f"{where}: {error}"
            if other := seen.get(endpoint):
                yield f"{where}: {endpoint} is also listen.{other}"
            seen[endpoint] = door


def _key_problems(loaded: Loaded) -> Iterator[str]:
    """Keys that cannot be used refuse the whole (P16)."""
    security, origins = loaded.settings.security, loaded.origins
    if (security.key is None) is not (security.trust is None):
        has, lacks = ("trust", "key") if security.key is None else ("key", "trust")
        yield f"{origins[f'security.{has}']}: security.{has} is nothing without security.{lacks}"
    if security.key is None or security.trust is None:
        return
    from zbus.broker.keys import read_secret, read_trust  # which needs ZeroMQ

    readers = {"key": (read_secret, security.key), "trust": (read_trust, security.trust)}
    for name, (read, path) in readers.items():
        try:
            read(path)
        except ConfigError as error:
            yield f"{origins[f'security.{name}']}: security.{name}: {error.what}"


def _blame(loaded: Loaded, key: str) -> str:
    """Who is to blame for an endpoint: whoever set it, or else the runtime directory."""
    key = key if loaded.origins[key] != DEFAULT else "broker.runtime_dir"
    return f"{loaded.origins[key]}: {key}"


def _story(problems: list[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    listed = "\n".join(f"  {problem}" for problem in problems)
    return f"{len(problems)} problems:\n{listed}\nthe configuration is refused"
