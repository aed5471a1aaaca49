"""Writes ``docs/errors.md`` from the registry in ``zbus/errors.py``.

Run it after a change to the errors; ``tests/test_errors.py`` fails while the page is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "errors.md"


def main() -> None:
    """Write the page, from the checkout this file is in."""
    sys.path.insert(0, str(ROOT))
    from zbus.explain import errors_page

    PAGE.write_text(errors_page(), "utf-8")


if __name__ == "__main__":
    main()
