"""Components from configuration: nvflare's own builder behind an allow-list.

Rules (contract section 8):

* Every part is checked before any is built: its class path must be below one of the module
  prefixes, else ``ComponentNotAuthorized`` names the place in the configuration.
* The caller's dict is not touched, and two builds share nothing (contract 12, row 23).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

from nvflare.fuel.common.excepts import ComponentNotAuthorized
from nvflare.fuel.utils.class_utils import ModuleScanner
from nvflare.fuel.utils.component_builder import ComponentBuilder

__all__ = ["AllowedBuilder"]

_PACKAGES = ["nvflare"]
_MODULES = ["apis", "app_common", "app_opt", "widgets"]
"""Where nvflare looks a bare class name up."""


class AllowedBuilder(ComponentBuilder):
    """Builds what is below these module prefixes, and nothing else."""

    def __init__(self, prefixes: Iterable[str] = ("nvflare.app_common", "nvflare.app_opt")) -> None:
        super().__init__()
        self._prefixes = tuple(f"{prefix.rstrip('.')}." for prefix in prefixes)
        self._scanner: Any = None

    def get_module_scanner(self) -> Any:
        """nvflare's, made when a bare class name is first looked up; it imports a lot."""
        if self._scanner is None:
            self._scanner = ModuleScanner(_PACKAGES, _MODULES, True)
        return self._scanner

    def build_component(self, config_dict: Any) -> Any:
        """The component, None for an empty or disabled one.

        Raises:
            ComponentNotAuthorized: a part of it is not allowed; nothing was built.
            ConfigError, ValueError: as nvflare's own.
        """
        for place, class_path in self._parts(config_dict, "component"):
            if not class_path.startswith(self._prefixes):
                raise ComponentNotAuthorized(
                    f"{place}: {class_path} is not below an allowed module"
                )
        return super().build_component(copy.deepcopy(config_dict))

    def build_nested_component(self, config_dict: Any, arg_name: str) -> Any:
        """A part, which was checked with the whole."""
        return super().build_component(config_dict)

    def _parts(self, value: Any, place: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            if self.is_authorizable_component_config(value):
                yield place, self.get_class_path(value)
            for key, each in value.items():
                yield from self._parts(each, f"{place}.{key}")
        elif isinstance(value, list | tuple):
            for number, each in enumerate(value):
                yield from self._parts(each, f"{place}[{number}]")
