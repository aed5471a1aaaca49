"""The commented ``zbus.toml``: every setting with its default, its form and its reason.

``python -m zbus.broker.sample > deploy/zbus.toml`` writes it anew after a setting changed; a
test holds that file to this text. Every setting stands there commented out, so that the file
as it comes changes nothing, and removing the ``#`` before each gives the defaults.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from dataclasses import fields

from zbus.broker.settings import SETTINGS, Setting, Settings

__all__ = ["sample"]

_WIDTH = 96
_HEAD = """\
# Settings of the zbus broker. Every line that holds a setting is commented out and shows its
# default; take the "#" away and change the value to set it.
#
# Strongest first: a flag, a ZBUS_* variable (named below), the file given with --config,
# conf.d/*.toml beside this file (the last name wins), this file, the default.
# `zbus check` judges the whole, `zbus config show --origin` says what is in force and why.
"""


def sample() -> str:
    """The text of the commented file."""
    parts = [_HEAD]
    for part in fields(Settings):
        settings = [setting for setting in SETTINGS if setting.section == part.name]
        parts.extend(_section(settings, _title(part.name)))
    return "\n".join(parts)


def _title(attribute: str) -> str:
    meaning = type(getattr(Settings(), attribute)).__doc__ or ""
    return " ".join(meaning.split())


def _section(settings: list[Setting], title: str) -> Iterator[str]:
    name = settings[0].key.partition(".")[0]
    yield f"{_comment(title)}[{name}]\n"
    for setting in settings:
        name = setting.key.partition(".")[2]
        value = setting.form.show(setting.default)
        form = f"Form: {setting.form.expected}."
        yield (
            f"{_comment(setting.text)}{_comment(form)}"
            f"{_comment(f'{setting.variable}, {setting.flag}')}#{name} = {value}\n"
        )


def _comment(text: str) -> str:
    lines = textwrap.wrap(text, _WIDTH - 2, break_on_hyphens=False, break_long_words=False)
    return "".join(f"# {line}\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(sample())
