"""Components from configuration: ``{"path": "acme.nets.Net", "args": {...}}`` to a ``Net``.

Rules of this room (contract section 8, defects 12.23, 12.24 and 12.26):

* Four steps over the whole configuration, one after the other: read it, check every class in
  it against the allow-list, import them all, build. So a refused part, however deep, means that
  nothing was imported, and a missing one that nothing was built.
* The allow-list has modules, and packages with all that is in them. ``ANYTHING`` says, in so
  many words, that configuration may name any class. A class must also be *made* in an allowed
  module: what a module merely imports, it does not offer. Functions are no components.
* The caller's dict is never changed, and no two builds share anything of it.
* What is wrong is named with its place in the configuration. What a constructor raises goes
  through as it is, with the place as a note.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from zbus.errors import ComponentError, ComponentNotAuthorized

__all__ = ["ANYTHING", "ComponentBuilder", "ConfigType"]

ANYTHING = "*"
"""In an allow-list: any class that can be imported. Configuration is code then."""
_CLASS_KEYS = ("path", "class_path", "name")
"""Of several in one configuration the first counts, by being there."""


class ConfigType:
    """What a dict within the arguments is."""

    COMPONENT = "component"
    DICT = "dict"


@dataclass(slots=True)
class _Part:
    """A component to be built; among its arguments there may be further ones."""

    place: str
    class_path: str
    args: dict[str, Any]
    made_by: Any = None


class ComponentBuilder:
    """Builds components whose modules are allowed; ``names`` says what short names stand for."""

    def __init__(self, allowed: Iterable[str], names: Mapping[str, str] | None = None) -> None:
        self._allowed = frozenset(allowed)
        self._names = dict(names or {})

    def build_component(self, config_dict: Any) -> Any:
        """The component that this configuration says; None for an empty or disabled one.

        Raises:
            ComponentNotAuthorized: a class in it is not allowed; nothing was imported.
            ComponentError: it cannot be built as it stands; nothing was built.
            Exception: whatever a constructor raises.
        """
        part = self._read(config_dict, "")
        if part is None:
            return None
        parts = list(_every_part(part))
        for one in parts:
            self._authorize(one, one.class_path)
        for one in parts:
            self._import(one)
        return _built(part)

    # -- read ------------------------------------------------------------------------------

    def _read(self, config: Any, place: str) -> _Part | None:
        if not config:
            return None
        if not isinstance(config, dict):
            raise _error(place, f"a component must be a dict, not {type(config).__name__}")
        if config.get("disabled") is True:
            return None
        args = config.get("args", {})
        if not isinstance(args, dict):
            raise _error(f"{place}.args", f"arguments must be a dict, not {type(args).__name__}")
        read = {key: self._read_argument(arg, f"{place}.args.{key}") for key, arg in args.items()}
        if "class_attributes" in args:
            read = self._attributes(args["class_attributes"], f"{place}.args.class_attributes")
        return _Part(place, self._class_path(config, place), read)

    def _read_argument(self, arg: Any, place: str) -> Any:
        if isinstance(arg, dict) and self._is_component(arg):
            return self._read(arg, place)
        return _copied(arg)

    def _is_component(self, config: dict[str, Any]) -> bool:
        if config.get("config_type", ConfigType.COMPONENT) != ConfigType.COMPONENT:
            return False
        try:
            self._class_path(config, "")
        except ComponentError:
            return False
        return True

    def _attributes(self, attributes: Any, place: str) -> dict[str, Any]:
        if not isinstance(attributes, dict):
            raise _error(place, f"must be a dict, not {type(attributes).__name__}")
        return {key: _copied(value) for key, value in attributes.items()}

    def _class_path(self, config: dict[str, Any], place: str) -> str:
        key = next((key for key in _CLASS_KEYS if key in config), None)
        if key is None:
            raise _error(place, "no path, class_path or name says which class")
        said = config[key]
        if not isinstance(said, str) or not said:
            raise _error(f"{place}.{key}", f"must be a text, not {said!r:.60}")
        path = self._names.get(said, "") if key == "name" else said
        if not path:
            raise _error(f"{place}.{key}", f"no component is called {said!r:.60}")
        if "." not in path or not all(map(str.isidentifier, path.split("."))):
            raise _error(f"{place}.{key}", f"{path!r:.60} is not module.Class")
        return path

    # -- check and import ------------------------------------------------------------------

    def _authorize(self, part: _Part, path: str) -> None:
        if ANYTHING in self._allowed:
            return
        words = path.split(".")
        if self._allowed.isdisjoint(".".join(words[:n]) for n in range(1, len(words) + 1)):
            place = part.place.lstrip(".") or "component"
            raise ComponentNotAuthorized(f"{place}: {path} is in no module that is allowed here")

    def _import(self, part: _Part) -> None:
        module_name, _, class_name = part.class_path.rpartition(".")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise _error(part.place, f"there is no module {error.name or module_name}") from error
        made_by = getattr(module, class_name, None)
        if not inspect.isclass(made_by):
            raise _error(part.place, f"there is no class {part.class_path}")
        self._authorize(part, f"{made_by.__module__}.{made_by.__qualname__}")
        part.made_by = made_by
        _check_arguments(part)


def _check_arguments(part: _Part) -> None:
    try:
        signature = inspect.signature(part.made_by)
    except ValueError:
        return  # Some classes written in C say nothing about theirs.
    try:
        signature.bind(**part.args)
    except TypeError as error:
        raise _error(part.place, f"{part.class_path} takes other arguments: {error}") from None


def _every_part(part: _Part) -> Iterable[_Part]:
    yield part
    for arg in part.args.values():
        if isinstance(arg, _Part):
            yield from _every_part(arg)


def _built(part: _Part) -> Any:
    args = {k: _built(arg) if isinstance(arg, _Part) else arg for k, arg in part.args.items()}
    try:
        return part.made_by(**args)
    except Exception as error:
        error.add_note(f"while {part.place.lstrip('.') or 'component'} was built")
        raise


def _copied(value: Any) -> Any:
    """The value with dicts and lists of its own; whatever else is in them is shared."""
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    if type(value) is list:
        return [_copied(item) for item in value]
    return value


def _error(place: str, why: str) -> ComponentError:
    return ComponentError(f"{place.lstrip('.') or 'component'}: {why}")
