"""The build backend: setuptools', which needs the compiler of the rooms only where it is used.

Rules: what a compiled build needs is installed for it and for nothing else. It is the compiler, in
the version that the tests have seen, and what the rooms import, whose types it reads: both as
setup.cfg has them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from configparser import ConfigParser

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

_Settings = dict[str, str | list[str] | None] | None


def get_requires_for_build_wheel(config_settings: _Settings = None) -> list[str]:
    """See PEP 517."""
    return _needed(build_meta.get_requires_for_build_wheel, config_settings)


def get_requires_for_build_editable(config_settings: _Settings = None) -> list[str]:
    """See PEP 660."""
    return _needed(build_meta.get_requires_for_build_editable, config_settings)


def _needed(asked: Callable[[_Settings], list[str]], config_settings: _Settings) -> list[str]:
    """What setuptools needs, which runs setup.py for that, and the compiler, which is not there
    yet while it does."""
    compiles = os.environ.pop("ZBUS_COMPILE", "0")
    try:
        needed = asked(config_settings)
    finally:
        os.environ["ZBUS_COMPILE"] = compiles
    return [*needed, *_of_compiler()] if compiles == "1" else needed


def _of_compiler() -> list[str]:
    settings = ConfigParser()
    settings.read("setup.cfg", "utf-8")
    tested_with = settings["options.extras_require"]["test"].split("\n")
    (mypy,) = (line for line in tested_with if line.startswith("mypy"))
    imported = settings["options"]["install_requires"].strip().split("\n")
    return [mypy.replace("mypy", "mypy[mypyc]", 1), *imported]
