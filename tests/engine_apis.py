"""The names that zbus.engine and nvflare share, each from its own modules.

Each is imported only when it is asked for, in an interpreter that has it.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from engine_sites import bus_sites, cell_sites, flare_sites

GROUPS = (
    "ReturnCode ReservedTopic ReservedKey FLContextKey ReservedHeaderKey SiteType ProcessType"
    " EventScope FedEventHeader LogMessageTag EventType"
).split()
"""The groups of constants."""


def zbus_api() -> Any:
    engine = import_module("zbus.engine")
    api = SimpleNamespace(**{name: getattr(engine, name) for name in GROUPS})
    for name in "Shareable FLContext FLContextManager FLComponent Signal TaskAssignment".split():
        setattr(api, name, getattr(engine, name))
    api.make_reply, api.make_copy = engine.make_reply, engine.make_copy
    api.Client, api.Workspace, api.fire_event = engine.Client, engine.Workspace, engine.fire_event
    builder = engine.ComponentBuilder(["engine_parts"], {"Box": "engine_parts.Box"})
    api.build = builder.build_component
    api.Spec = engine.ClientEngineExecutorSpec
    api.Runner = import_module("zbus.engine.aux_runner").AuxRunner
    api.aux_spec = import_module("zbus.engine.aux_spec")
    api.sites = partial(bus_sites, api)
    return api


def nvflare_api() -> Any:
    constants = import_module("nvflare.apis.fl_constant")
    shareable = import_module("nvflare.apis.shareable")
    context = import_module("nvflare.apis.fl_context")
    spec = import_module("nvflare.private.fed.client.client_engine_executor_spec")
    api = SimpleNamespace(
        **{name: getattr(constants, name) for name in GROUPS if hasattr(constants, name)},
        EventType=import_module("nvflare.apis.event_type").EventType,
        ReservedHeaderKey=shareable.ReservedHeaderKey,
        Shareable=shareable.Shareable,
        make_reply=shareable.make_reply,
        make_copy=shareable.make_copy,
        FLContext=context.FLContext,
        FLContextManager=context.FLContextManager,
        FLComponent=import_module("nvflare.apis.fl_component").FLComponent,
        Signal=import_module("nvflare.apis.signal").Signal,
        TaskAssignment=spec.TaskAssignment,
        Client=import_module("nvflare.apis.client").Client,
        Workspace=import_module("nvflare.apis.workspace").Workspace,
        fire_event=import_module("nvflare.private.event").fire_event,
    )
    api.build = _nvflare_builder().build_component
    api.Spec = spec.ClientEngineExecutorSpec
    api.Runner = import_module("nvflare.private.aux_runner").AuxRunner
    api.aux_spec = import_module("nvflare.apis.aux_spec")
    api.sites = partial(cell_sites, api)
    return api


def flare_api() -> Any:
    """nvflare's own names, with engines of ``zbus.nvflare``."""
    api = nvflare_api()
    room = import_module("zbus.nvflare")
    api.Spec, api.Runner = room.ClientEngine, import_module("zbus.nvflare.aux_runner").BusAuxRunner
    builder = room.AllowedBuilder(["engine_parts"])
    builder._scanner = _nvflare_builder().get_module_scanner()
    api.build = builder.build_component
    api.sites = partial(flare_sites, api)
    return api


def _nvflare_builder() -> Any:
    room = import_module("nvflare.fuel.utils.component_builder")

    class Scanner:
        def get_module_name(self, class_name: str) -> str:
            if class_name != "Box":
                raise room.ConfigError(class_name)
            return "engine_parts"

    class Builder(room.ComponentBuilder):  # type: ignore[name-defined, misc]
        def get_module_scanner(self) -> Scanner:
            return Scanner()

    return Builder()
