"""Looks whether what is installed here is fit, and whether anything known is wrong with it.

    python tools/audit.py            floors, then advisories
    python tools/audit.py --floors   floors only; needs no network

* Floors: every distribution that ``setup.cfg`` asks for is installed in a version that it allows,
  and none of these allows a version below ``FLOORS``, each of which stands for an advisory or a
  feature. This decides.
* Advisories: ``pip-audit`` asks PyPI about every installed version. A finding fails. Where it is
  not installed, or its service cannot be reached or does not know a distribution, that is said in
  a line of its own, and does not fail: whoever builds without the internet can still build.
"""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {
    "pyzmq": "27",  # its wheels bring libzmq 4.3.5
    "msgpack": "1.2.1",  # CVE-2026-57585: a decoder used again after an error
}
_AUDIT_S = 120
_SHOWN_MAX = 5
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:>=|==|~=)\s*([0-9][0-9.]*)")


def numbers(text: str) -> tuple[int, ...]:
    """A version as numbers; what follows them (``rc1``, ``+local``) does not count."""
    found = re.match(r"[0-9]+(?:\.[0-9]+)*", text)
    return tuple(int(word) for word in found[0].split(".")) if found else ()


def below(one: str, floor: str) -> bool:
    """Whether a version is lower; 1.2 is 1.2.0."""
    length = max(len(numbers(one)), len(numbers(floor)))
    padded = [(*numbers(each), *[0] * (length - len(numbers(each)))) for each in (one, floor)]
    return padded[0] < padded[1]


def requirements(root: Path = ROOT) -> dict[str, str]:
    """What the package needs at run time, and from which version on."""
    parser = configparser.ConfigParser()
    parser.read(root / "setup.cfg", "utf-8")
    found = {}
    for line in parser["options"]["install_requires"].strip().splitlines():
        asked = _REQUIREMENT.fullmatch(line.strip())
        if asked is None:
            raise SystemExit(f"setup.cfg: {line!r} has no lowest version")
        found[asked[1]] = asked[2]
    return found


def unfit(asked: dict[str, str], installed: dict[str, str]) -> Iterator[str]:
    """What is wrong with what is asked for, and with what is installed."""
    for name, floor in FLOORS.items():
        if name not in asked or below(asked[name], floor):
            yield f"setup.cfg asks for {name} {asked.get(name, 'not at all')}, not for >= {floor}"
    for name, lowest in asked.items():
        if name not in installed:
            yield f"{name} is not installed"
        elif below(installed[name], lowest):
            yield f"{name} {installed[name]} is installed, and at least {lowest} is needed"


def installed_of(names: Sequence[str]) -> dict[str, str]:
    """The installed versions of these, of those that are."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def judged(report: dict[str, Any]) -> tuple[list[str], list[str], int]:
    """Of a report of ``pip-audit``: what was found, what could not be asked about, and how many
    were found clean."""
    found, unknown, clean = [], [], 0
    for each in report.get("dependencies", []):
        name = f"{each['name']} {each.get('version', '')}".strip()
        if each.get("skip_reason"):
            unknown.append(name)
        for advisory in each.get("vulns", []):
            fixed = ", ".join(advisory.get("fix_versions", [])) or "nothing yet"
            found.append(f"{name}: {advisory['id']}, fixed in {fixed}")
        clean += not each.get("skip_reason") and not each.get("vulns")
    return found, unknown, clean


def advisories() -> int:
    """Ask; 1 if there is one for what is installed."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_AUDIT_S)
        found, unknown, clean = judged(json.loads(done.stdout))
    except (subprocess.TimeoutExpired, ValueError):
        print("audit: NOT ASKED: pip-audit is not installed, or reached no advisory service")
        return 0
    for line in found:
        print(f"audit: {line}")
    if unknown:
        some = ", ".join(unknown[:_SHOWN_MAX])
        print(f"audit: NOT ASKED: the service does not know {len(unknown)}: {some} ...")
    print(f"audit: {len(found)} advisories for {len(found) + clean} that it knows")
    return 1 if found else 0


def main(arguments: Sequence[str]) -> int:
    """The exit code: 1 where something is unfit, or an advisory was found."""
    asked = requirements()
    wrong = list(unfit(asked, installed_of([*asked])))
    for line in wrong:
        print(f"audit: {line}")
    if wrong:
        return 1
    print(f"audit: floors hold: {', '.join(f'{name} >= {asked[name]}' for name in asked)}")
    return 0 if "--floors" in arguments else advisories()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
