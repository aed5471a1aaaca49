"""The interfaces, to the letter."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from zbus import engine
from zbus.engine import ClientEngine, ClientEngineExecutorSpec, ClientEngineSpec, ServerEngine
from zbus.engine.spec import ServerEngineSpec

CLIENT = {
    "abort_app": "job_id fl_ctx",
    "aux_send": "topic request timeout fl_ctx",
    "build_component": "config_dict",
    "fire_and_forget_aux_request": "topic request fl_ctx",
    "register_aux_message_handler": "topic message_handle_func",
    "send_aux_request": "topic request timeout fl_ctx",
    "fire_event": "event_type fl_ctx",
    "get_all_components": "",
    "get_component": "component_id",
    "get_task_assignment": "fl_ctx",
    "get_workspace": "",
    "new_context": "",
    "send_task_result": "result fl_ctx",
}
SERVER = {
    "cancel_client_resources": "resource_check_results resource_reqs",
    "check_client_resources": "resource_reqs",
    "fire_event": "event_type fl_ctx",
    "get_client_name_from_token": "token",
    "get_clients": "",
    "get_component": "component_id",
    "get_widget": "widget_id",
    "get_workspace": "",
    "new_context": "",
    "persist_components": "fl_ctx completed",
    "register_aux_message_handler": "topic message_handle_func",
    "restore_components": "snapshot fl_ctx",
    "send_aux_request": "targets topic request timeout fl_ctx",
    "start_client_job": "job_id client_sites",
    "sync_clients_from_main_process": "",
    "validate_clients": "client_names",
}
OWN = "abort_app aux_send build_component fire_and_forget_aux_request register_aux_message_handler"


@pytest.mark.parametrize(
    ("spec", "methods", "kind"),
    [(ClientEngineExecutorSpec, CLIENT, ClientEngine), (ServerEngineSpec, SERVER, ServerEngine)],
)
def test_methods_and_parameter_names(spec: Any, methods: dict[str, str], kind: Any) -> None:
    """Contract sections 2.1 to 2.4: components call by keyword. The engine may take more, with
    defaults, behind them."""
    assert {*spec.__abstractmethods__} == {*methods}
    assert not kind.__abstractmethods__
    assert issubclass(kind, spec)
    for name, parameters in methods.items():
        assert [*inspect.signature(getattr(spec, name)).parameters][1:] == parameters.split()
        taken = [*inspect.signature(getattr(kind, name)).parameters.values()][1:]
        wanted = len(parameters.split())
        assert [each.name for each in taken[:wanted]] == parameters.split()
        assert all(each.default is not inspect.Parameter.empty for each in taken[wanted:])


def test_whose_the_methods_are() -> None:
    """Six are the executor's own, and ``get_widget`` is the one that is there already."""
    own = ClientEngineExecutorSpec.__abstractmethods__ - ClientEngineSpec.__abstractmethods__
    assert own == {*OWN.split(), "send_aux_request"}
    assert "get_widget" not in ClientEngineSpec.__abstractmethods__
    assert [*inspect.signature(ClientEngineSpec.get_widget).parameters] == ["self", "widget_id"]
    told = inspect.signature(ServerEngineSpec.fire_and_forget_aux_request).parameters
    assert [*told][1:] == "targets topic request fl_ctx".split()


def test_every_name_of_the_face_is_there() -> None:
    """Each is imported when it is first asked for, from where it lives."""
    assert all(getattr(engine, name).__name__ == name for name in engine.__all__)
