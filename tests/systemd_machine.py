"""A real systemd in namespaces of its own, for tests of units: a machine inside the machine.

Rules of this room:

* It has its own root (an overlay, thrown away), /run, /tmp, /dev, process, network and cgroup
  namespaces. systemd empties the /tmp that it sees when it boots, so it must see none but its
  own; that is checked before it is started. /proc/sys is read-only there, so that no limit of
  the real machine is raised; the two that systemd is known for are put back all the same.
* It ends with its ``Machine``, or with the process that made it, and leaves no process, mount or
  cgroup.
* What cannot be set up here raises ``CannotBoot`` with the reason, which a test skips on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

BOOT_S = 20.0
TOOLS = ("unshare", "nsenter", "setpriv", "systemctl", "systemd-sysusers", "systemd-tmpfiles")
SYSTEMD = Path("/lib/systemd/systemd")

OUTER = """\
set -eu
stage=$1
files=$(cat /proc/sys/fs/file-max) opened=$(cat /proc/sys/fs/nr_open)
mount --make-rprivate /
mount -t tmpfs area "$stage/area"
mkdir "$stage/area/cgroup"
mount -t cgroup2 cgroup2 "$stage/area/cgroup"
home=$stage/area/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
ours=$home/zbus-test-$$
mkdir "$ours"
child=
finish() {
    trap '' TERM
    [ -z "$child" ] || kill -KILL "$child" 2>/dev/null || true
    wait || true
    echo $$ > "$home/cgroup.procs"
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        find "$ours" -depth -type d -exec rmdir {} + 2>/dev/null || true
        [ -d "$ours" ] || break
        sleep 0.1
    done
    [ "$(cat /proc/sys/fs/file-max)" = "$files" ] || echo "$files" > /proc/sys/fs/file-max
    [ "$(cat /proc/sys/fs/nr_open)" = "$opened" ] || echo "$opened" > /proc/sys/fs/nr_open
}
trap finish EXIT
trap 'exit 0' TERM
echo $$ > "$ours/cgroup.procs"
unshare --pid --fork --kill-child=SIGKILL --mount --uts --ipc --cgroup --net \\
    sh "$stage/inner.sh" "$stage" &
child=$!
echo "$child" > "$stage/unshared"
wait "$child"
"""

INNER = """\
set -eu
export PATH="$PATH:/usr/sbin:/sbin"
stage=$1 area=$1/area root=$1/area/root
mount --make-rprivate /
mkdir "$area/upper" "$area/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$area/upper,workdir=$area/work" "$root"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs run "$root/run"
mount -t tmpfs tmp "$root/tmp"
mount -t tmpfs dev "$root/dev"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
    name=${node%%:*} numbers=${node#*:}
    mknod -m 666 "$root/dev/$name" c "${numbers%:*}" "${numbers#*:}"
done
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
cp -a "$stage/files/." "$root/"
while read -r source target; do
    mkdir -p "$root$target"
    mount --bind "$source" "$root$target"
done < "$stage/binds"
systemd-sysusers --root="$root" zbus.conf
systemd-tmpfiles --root="$root" --create zbus.conf
for place in run tmp dev; do
    mountpoint -q "$root/$place"
    [ "$(stat -c %d "$root/$place")" != "$(stat -c %d "/$place")" ]
done
mkdir "$root/run/before"
cd "$root"
pivot_root . run/before
umount -l run/before
rmdir run/before
exec env -i container=x /lib/systemd/systemd --system --unit=test.target
"""

TARGET = "[Unit]\nDefaultDependencies=no\n"


class CannotBoot(Exception):
    """This machine does not allow it; the text says why."""


class Machine:
    """The booted machine. ``files`` maps paths in it to texts; ``binds`` gives it directories."""

    def __init__(
        self, stage: Path, files: Mapping[str, str], binds: Mapping[Path, str] | None = None
    ) -> None:
        _check_tools()
        (stage / "area").mkdir(parents=True)
        (stage / "outer.sh").write_text(OUTER)
        (stage / "inner.sh").write_text(INNER)
        listed = (f"{source} {target}\n" for source, target in (binds or {}).items())
        (stage / "binds").write_text("".join(listed))
        for path, text in {"/run/systemd/system/test.target": TARGET, **files}.items():
            _place(stage / "files" / path.lstrip("/"), text)
        _make_readable(stage / "files")
        self._stage = stage
        with open(stage / "said", "wb") as said:
            self._outer = subprocess.Popen(
                [*"setpriv --pdeathsig TERM unshare --mount sh".split(), stage / "outer.sh", stage],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        try:
            self._first = self._booted()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Kill it and wait until nothing of it is left."""
        self._outer.terminate()
        self._outer.wait(10)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command inside, as root."""
        inside = ["nsenter", f"--target={self._first}", *"-m -p -u -i -n -C -r -w".split()]
        return subprocess.run([*inside, *command], capture_output=True, text=True, timeout=60)

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", unit, f"--property={name}", "--value").stdout.strip()

    def write(self, path: str, text: str) -> None:
        """A file inside."""
        _place(Path(f"/proc/{self._first}/root{path}"), text)

    def read(self, path: str) -> str:
        """A file inside; empty where there is none."""
        try:
            return Path(f"/proc/{self._first}/root{path}").read_text()
        except FileNotFoundError:
            return ""

    def wait_for(self, condition: Callable[[], bool], what: str, within_s: float = 15.0) -> float:
        """How long it took until the condition held."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < within_s, f"not in time: {what}"
            time.sleep(0.02)
        return time.monotonic() - began

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _booted(self) -> int:
        """The process that is number one inside, once it answers."""
        end = time.monotonic() + BOOT_S
        while time.monotonic() < end:
            if self._outer.poll() is not None:
                raise CannotBoot(self._last_said())
            first = self._process_one()
            if first is not None:
                self._first = first
                if self.run("systemctl", "is-active", "test.target").stdout == "active\n":
                    return first
            time.sleep(0.05)
        raise CannotBoot(f"systemd did not answer within {BOOT_S:.0f} s: {self._last_said()}")

    def _process_one(self) -> int | None:
        try:
            unshared = int((self._stage / "unshared").read_text())
            children = Path(f"/proc/{unshared}/task/{unshared}/children").read_text().split()
            first = int(children[0])
            is_systemd = os.path.samefile(f"/proc/{first}/exe", f"/proc/{first}/root{SYSTEMD}")
        except (OSError, ValueError, IndexError):
            return None
        return first if is_systemd else None

    def _last_said(self) -> str:
        lines = (self._stage / "said").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def _check_tools() -> None:
    if os.geteuid() != 0:
        raise CannotBoot("only root can make a machine")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing or not SYSTEMD.exists():
        raise CannotBoot(f"not installed: {', '.join(missing) or SYSTEMD}")


def _place(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _make_readable(place: Path) -> None:
    """Others must read it, whatever the umask; a file in a ``bin`` is a program."""
    for found in [place, *place.rglob("*")]:
        is_program = found.is_dir() or found.parent.name == "bin"
        found.chmod(0o755 if is_program else 0o644)
