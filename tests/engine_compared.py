"""``python engine_compared.py zbus``, ``nvflare`` or ``zbus.nvflare``: JSON of case and outcome.

It runs where the other package is not. nvflare searches the working directory, so that is to be
an empty one.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from importlib import import_module
from typing import Any

from engine_apis import GROUPS, flare_api, nvflare_api, zbus_api
from engine_registry import CASES, OURS, outcome

__all__ = ["outcomes"]


def outcomes(package: str) -> dict[str, str]:
    """What every case says with this package."""
    logging.disable(logging.CRITICAL)
    import_module("engine_cases")
    import_module("engine_sends")
    import_module("engine_ends")
    cases = dict(CASES)
    if package == "zbus":
        import_module("engine_seed")
        cases |= OURS
    apis = {"zbus": zbus_api, "nvflare": nvflare_api, "zbus.nvflare": flare_api}
    api = apis[package]()
    said = {name: outcome(function, api) for name, function in cases.items()}
    return said | {f"constants.{group}": repr(_words(getattr(api, group))) for group in GROUPS}


def _words(group: type) -> dict[str, Any]:
    return dict(sorted((name, value) for name, value in vars(group).items() if name[0] != "_"))


if __name__ == "__main__":
    print(json.dumps(outcomes(sys.argv[1])), flush=True)
    # nvflare leaves threads behind that would keep the process.
    os._exit(0)
