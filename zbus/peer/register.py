"""The register: which types beyond the plain ones may be in a body, and what they are made of.

Rules of this room:

* The set is closed: only what was registered by name is sent, and only what is registered by
  the same name at the receiver is made there. A name in a body imports nothing.
* A type is said as its name and its parts, which are values of the closed set themselves.
* Registering is done once, at import; registering the same again changes nothing.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

__all__ = ["Form", "form_named", "form_of", "register", "register_form"]

_Kind = TypeVar("_Kind", bound=type)


class Form(NamedTuple):
    """How a type is said: its name, and the ways to its parts and back."""

    name: str
    kind: type
    parts: Callable[[Any], Any]
    make: Callable[[Any], Any]
    """Raises on parts that no value of the type has."""


_by_kind: dict[type, Form] = {}
_by_name: dict[str, Form] = {}


def register(kind: _Kind, name: str = "") -> _Kind:
    """Let the members of this enum, or the instances of this dataclass, be in bodies.

    Returns the class, so that it can stand above it as a decorator. The name, by default its
    module and its own, must be the same at both ends. An enum's member is said by its name, a
    flag by its number, a dataclass by its fields; it is made by calling the class.

    Raises:
        TypeError: it is neither, or a dataclass with fields that its constructor does not take.
        ValueError: the name or the class is registered already, and otherwise.
    """
    name = name or f"{kind.__module__}.{kind.__qualname__}"
    if issubclass(kind, enum.Flag):
        register_form(name, kind, _flag_value, kind)
    elif issubclass(kind, enum.Enum):
        register_form(name, kind, _member_name, partial(_member, kind))
    elif dataclasses.is_dataclass(kind):
        _register_dataclass(name, kind)
    else:
        raise TypeError(f"{name} is neither an enum nor a dataclass")
    return kind


def register_form(
    name: str, kind: type, parts: Callable[[Any], Any], make: Callable[[Any], Any]
) -> None:
    """Register any type with its own way to its parts and back.

    Raises:
        ValueError: the name or the type is registered already, and otherwise.
    """
    known = _by_name.get(name), _by_kind.get(kind)
    if known != (None, None):
        if all(form is not None and (form.name, form.kind) == (name, kind) for form in known):
            return
        raise ValueError(f"{name} or its type is registered already, as something else")
    _by_name[name] = _by_kind[kind] = Form(name, kind, parts, make)


def form_of(kind: type) -> Form | None:
    """The form of exactly this type; a subclass is another type."""
    return _by_kind.get(kind)


def form_named(name: str) -> Form | None:
    """The form with this name."""
    return _by_name.get(name)


def _flag_value(flag: enum.Flag) -> Any:
    return flag.value


def _member_name(member: enum.Enum) -> str:
    return member.name


def _member(kind: type[enum.Enum], name: str) -> enum.Enum:
    # Not kind.__getitem__, which is that of text where the members are text.
    return kind[name]


def _register_dataclass(name: str, kind: type) -> None:
    fields = dataclasses.fields(kind)
    names = tuple(field.name for field in fields)
    if not all(field.init for field in fields):
        raise TypeError(f"{name} has fields that its constructor does not take")

    def parts(value: Any) -> dict[str, Any]:
        return {field: getattr(value, field) for field in names}

    def make(said: Any) -> Any:
        if type(said) is not dict or said.keys() != set(names):
            raise ValueError(f"the fields of {name} are others here")
        return kind(**said)

    register_form(name, kind, parts, make)
