"""Classes that the tests of the component builder build, with nothing but the standard library.

They stand in a module of their own, so that an interpreter with nvflare can import them, too.
"""

from __future__ import annotations

from os import getcwd
from subprocess import Popen
from typing import Any

__all__ = ["BOX", "BUILT", "CONFIGS", "STRICT", "Box", "Broken", "Popen", "Strict", "getcwd"]

BOX = "engine_parts.Box"
STRICT = {"path": "engine_parts.Strict", "args": {"width": 2}}
BUILT: list[str] = []
"""What was built, in order."""


class Box:
    """Takes any arguments, and keeps them."""

    def __init__(self, **kept: Any) -> None:
        self.kept = kept
        BUILT.append("Box")

    def __repr__(self) -> str:
        return f"Box({self.kept!r})"


class Strict:
    """Takes one argument."""

    def __init__(self, width: int = 1) -> None:
        self.width = width
        BUILT.append("Strict")

    def __repr__(self) -> str:
        return f"Strict({self.width!r})"


class Broken:
    """Cannot be made."""

    def __init__(self) -> None:
        raise LookupError("no luck")


CONFIGS: dict[str, Any] = {
    "none": None,
    "empty": {},
    "list": [STRICT],
    "text": BOX,
    "disabled": {"path": BOX, "disabled": True},
    "disabled_as_text": {"path": BOX, "disabled": "true"},
    "path": STRICT,
    "class_path": {"class_path": BOX},
    "name": {"name": "Box", "args": {"a": 1}},
    "path_before_class_path": {"class_path": "nothing.Here", "path": BOX, "name": "Nobody"},
    "name_unknown": {"name": "Nobody"},
    "no_class": {"args": {}},
    "path_empty": {"path": "", "class_path": BOX},
    "path_no_text": {"path": 1},
    "path_no_dot": {"path": "Box"},
    "args_none": {"path": BOX, "args": None},
    "args_list": {"path": BOX, "args": [1]},
    "module_missing": {"path": "engine_parts.nothing.Here"},
    "class_missing": {"path": "engine_parts.Here"},
    "arguments_wrong": {"path": "engine_parts.Strict", "args": {"height": 1}},
    "constructor_raises": {"path": "engine_parts.Broken"},
    "nested": {"path": BOX, "args": {"a": STRICT, "b": {"c": 1}}},
    "nested_twice": {"path": BOX, "args": {"a": {"path": BOX, "args": {"b": STRICT}}}},
    "nested_empty": {"path": BOX, "args": {"a": {}}},
    "nested_disabled": {"path": BOX, "args": {"a": {"path": BOX, "disabled": True}}},
    "nested_in_a_list": {"path": BOX, "args": {"a": [STRICT]}},
    "nested_in_a_dict": {"path": BOX, "args": {"a": {"b": STRICT}}},
    "nested_as_dict": {"path": BOX, "args": {"a": {**STRICT, "config_type": "dict"}}},
    "nested_unknown_name": {"path": BOX, "args": {"a": {"name": "Nobody"}}},
    "nested_file_path": {"path": BOX, "args": {"a": {"path": "data/train.csv"}}},
    "nested_takes_path": {"path": BOX, "args": {"a": {"path": BOX, "args": {"path": "x"}}}},
    "nested_fails": {"path": BOX, "args": {"a": {"path": "engine_parts.Broken"}}},
    "top_as_dict": {**STRICT, "config_type": "dict"},
    "class_attributes": {"path": BOX, "args": {"class_attributes": {"a": 1}, "b": 2}},
    "function": {"path": "engine_parts.getcwd"},
    "other_module": {"path": "collections.OrderedDict"},
    "other_module_nested": {"path": BOX, "args": {"a": {"path": "collections.OrderedDict"}}},
    "imported_from_elsewhere": {"path": "engine_parts.Popen", "args": {"args": "true"}},
}
"""What the builders of both packages are given, by the name of the case."""
