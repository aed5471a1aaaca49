"""Components from configuration, and what may be built (contract section 8)."""

from __future__ import annotations

import copy
from typing import Any

import pytest

pytest.importorskip("nvflare", reason="needs the extra nvflare")

from nvflare.fuel.common.excepts import ComponentNotAuthorized, ConfigError

from zbus.nvflare.builder import AllowedBuilder

pytestmark = pytest.mark.real

GOOD = {"path": "nvflare.app_common.widgets.intime_model_selector.IntimeModelSelector"}


def test_what_is_allowed_is_built() -> None:
    """With its arguments, and None for nothing."""
    build = AllowedBuilder().build_component
    built = build({**GOOD, "args": {"key_metric": "m"}})
    assert type(built).__name__ == "IntimeModelSelector"
    assert build({}) is None
    assert build(None) is None
    assert build({**GOOD, "disabled": True}) is None


@pytest.mark.parametrize(
    ("config", "place"),
    [
        ({"path": "subprocess.Popen", "args": {"args": ["true"]}}, "component:"),
        ({"path": "os.getcwd"}, "component:"),
        ({"path": "nvflare.app_common_too.x.Y"}, "component:"),
        ({**GOOD, "args": {"a": {"path": "os.getcwd"}}}, r"component.args.a:"),
        (
            {**GOOD, "args": {"a": [{"b": {"class_path": "os.getcwd"}}]}},
            r"component.args.a\[0\].b:",
        ),
    ],
)
def test_the_rest_is_refused(config: dict[str, Any], place: str) -> None:
    """Wherever it stands, with its place, and before anything is built."""
    with pytest.raises(ComponentNotAuthorized, match=f"^{place}"):
        AllowedBuilder().build_component(config)


def test_the_configuration_stays_as_it_was() -> None:
    """Nested parts are built anew each time (contract 12, row 23)."""
    config = {
        "path": "types.SimpleNamespace",
        "args": {"part": {"path": "types.SimpleNamespace", "args": {"n": 1}}},
    }
    before = copy.deepcopy(config)
    build = AllowedBuilder(["types"]).build_component
    first, second = build(config), build(config)
    assert config == before
    assert first.part.n == 1
    assert first.part is not second.part


def test_bad_configurations_are_nvflares() -> None:
    """Its errors for what is no configuration."""
    with pytest.raises(ConfigError):
        AllowedBuilder().build_component([1])
    with pytest.raises(ConfigError):
        AllowedBuilder().build_component({"path": ""})
