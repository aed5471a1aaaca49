"""Who wrote which setting, and where: the layers below one configuration.

Rules of this room:

* Layers are laid from the weakest to the strongest; the last one that holds a key wins, and
  its origin is what ``zbus config show --origin`` prints.
* Everything written is kept and judged, also what a stronger layer hides: a file with a
  mistake in it is not valid.
* Nothing is guessed. A key that does not exist is a problem that names the nearest key. So is
  a ``ZBUS_*`` variable that looks like a setting and is none; other ``ZBUS_*`` variables are
  somebody else's (an orchestrator sets ``ZBUS_SERVICE_HOST`` for a service called zbus).
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

__all__ = ["DEFAULT", "Layers", "Written", "flag_of", "nearest", "variable_of"]

DEFAULT = "default"
_PEER_VARIABLES = frozenset(
    {"ZBUS_BACKEND", "ZBUS_ENDPOINT", "ZBUS_EPOCH", "ZBUS_KEY", "ZBUS_LAUNCH", "ZBUS_NAME"}
    | {"ZBUS_SERVER_KEY", "ZBUS_TOKEN"}
)
_OWN_VARIABLES = {"broker.runtime_dir": "ZBUS_RUNTIME_DIR"}
_NEAR = 0.75
_TABLE = re.compile(r"\s*\[\s*([\w.-]+)\s*\]", re.ASCII)
_KEY = re.compile(r"\s*([\w.-]+)\s*=", re.ASCII)
_VALUE_SHOWN_MAX = 60


@dataclass(frozen=True, slots=True)
class Written:
    """One value as somebody wrote it. ``textual`` says that it is the text of a variable or a
    flag, not a value of TOML."""

    key: str
    value: object
    origin: str
    textual: bool

    def __str__(self) -> str:
        value = str(self.value) if self.textual else json.dumps(self.value, default=str)
        if len(value) > _VALUE_SHOWN_MAX:
            value = value[:_VALUE_SHOWN_MAX] + "…"
        return f"{self.origin}: {self.key} = {value}"


class Layers:
    """What was written, weakest first, and what was wrong with the writing."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.written: list[Written] = []
        self.problems: list[str] = []
        self._keys = keys
        self._sections = sorted({key.partition(".")[0] for key in keys})

    def add_etc(self, etc: Path) -> None:
        """The files of the machine, where they exist: ``zbus.toml``, then ``conf.d/*.toml``."""
        for folder, only in ((etc, "zbus.toml"), (etc / "conf.d", None)):
            try:
                names = sorted(os.listdir(folder))
            except FileNotFoundError:
                continue
            except OSError as error:
                self.problems.append(f"file {folder}: it cannot be read: {error.strerror}")
                continue
            for name in names:
                if name == only or (only is None and name.endswith(".toml")):
                    self.add_file(folder / name)

    def add_file(self, path: Path) -> None:
        """A TOML file, which must be there."""
        origin = f"file {path}"
        try:
            text = path.read_bytes().decode()
            tables = tomllib.loads(text)
        except OSError as error:
            self.problems.append(f"{origin}: it cannot be read: {error.strerror}")
        except (ValueError, RecursionError) as error:
            self.problems.append(f"{origin}: it is no TOML: {error}")
        else:
            self._add_tables(origin, tables, _lines(text))

    def add_environment(self, environ: Mapping[str, str]) -> None:
        """The ``ZBUS_*`` variables. An empty one is as good as none."""
        keys = {variable_of(key): key for key in self._keys}
        for name, text in sorted(environ.items()):
            if name in keys and text:
                self.written.append(Written(keys[name], text, f"environment {name}", True))
            elif name.startswith("ZBUS_") and name not in keys:
                self._judge_variable(name)

    def add_flags(self, flags: Mapping[str, object]) -> None:
        """What the command line says, by dotted key; None or () is a flag not given."""
        for key, value in flags.items():
            if key not in self._keys:
                self.problems.append(self._no_setting(f"flag {flag_of(key)}", key))
            elif value not in (None, ()):
                textual = isinstance(value, str | Path)
                written = list(value) if isinstance(value, tuple) else value
                self.written.append(Written(key, written, f"flag {flag_of(key)}", textual))

    def _add_tables(
        self, origin: str, tables: Mapping[str, object], lines: Mapping[str, int]
    ) -> None:
        for section, table in tables.items():
            if isinstance(table, dict) and section in self._sections:
                for name, value in table.items():
                    self._add_key(f"{section}.{name}", value, origin, lines)
            elif section in self._sections:
                self.problems.append(f"{_at(origin, lines, section)}: write it as [{section}]")
            else:
                self.problems.append(self._no_setting(_at(origin, lines, section), section))

    def _add_key(self, key: str, value: object, origin: str, lines: Mapping[str, int]) -> None:
        where = _at(origin, lines, key)
        if key in self._keys:
            self.written.append(Written(key, value, where, False))
        else:
            self.problems.append(self._no_setting(where, key))

    def _judge_variable(self, name: str) -> None:
        if name in _PEER_VARIABLES:
            return
        spellings = {variable_of(key): (_bare(variable_of(key)), _tail(key)) for key in self._keys}
        near, likeness = nearest((_bare(name),), spellings)
        # [broker] has no prefix of its own: an orchestrator's ZBUS_BROKER_PORT is no setting.
        prefixes = tuple(f"{section}_" for section in self._sections if section != "broker")
        if likeness >= _NEAR or f"{_bare(name)}_".startswith(prefixes):
            self.problems.append(
                f"environment {name}: there is no such setting; the nearest is {near}"
            )

    def _no_setting(self, where: str, key: str) -> str:
        spellings: dict[str, Sequence[str]] = {known: (known, _tail(known)) for known in self._keys}
        if "." not in key:
            spellings |= {section: (section,) for section in self._sections}
        near, _ = nearest((key, _tail(key)), spellings)
        return f'{where}: there is no setting "{key}"; the nearest is "{near}"'


def variable_of(key: str) -> str:
    """The environment variable of a setting: ``ZBUS_TIMES_HEARTBEAT``."""
    return _OWN_VARIABLES.get(key) or f"ZBUS_{key.upper().replace('.', '_')}"


def flag_of(key: str) -> str:
    """The flag of a setting: ``--heartbeat``, and ``--log-level`` for the log's."""
    section, _, name = key.rpartition(".")
    return f"--{'log-' if section == 'log' else ''}{name.replace('_', '-')}"


def nearest(spellings: Sequence[str], candidates: Mapping[str, Sequence[str]]) -> tuple[str, float]:
    """The candidate with a spelling most like one of these, and how like it is, 0 to 1."""
    likeness = {
        candidate: max(
            SequenceMatcher(None, one, other).ratio() for one in spellings for other in others
        )
        for candidate, others in candidates.items()
    }
    best = max(likeness, key=likeness.__getitem__)
    return best, likeness[best]


def _tail(key: str) -> str:
    return key.rpartition(".")[2]


def _bare(variable: str) -> str:
    return variable.removeprefix("ZBUS_").lower()


def _at(origin: str, lines: Mapping[str, int], key: str) -> str:
    return f"{origin}:{lines[key]}" if key in lines else origin


def _lines(text: str) -> dict[str, int]:
    """The line of each table and key, as far as it can be told without a parser of our own."""
    found: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.split("\n"), 1):
        if table := _TABLE.match(line):
            section = f"{table[1]}."
            found.setdefault(table[1], number)
        elif key := _KEY.match(line):
            found.setdefault(section + key[1], number)
    return found
