# Sourced by tools/check and tools/demo, which stand in the root of the checkout by then.
#
#   venv_with EXTRA...   leaves the package, with these extras, installed in .venv.
#
# Makes .venv where there is none that works. Installs only if setup.cfg, pyproject.toml, the
# place of the checkout or the Python changed since a stamp in .venv was written, so that a
# second run takes no time and needs no network. The install is editable: a change to the code
# needs no new one.

python=.venv/bin/python

venv_with() {
    local stamp extra stale="" list
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        make_venv
    fi
    stamp="$("$python" -V) $PWD $(cat setup.cfg pyproject.toml tools/venv.sh | cksum)"
    for extra in "$@"; do
        [ "$(cat ".venv/stamp-$extra" 2>/dev/null)" = "$stamp" ] || stale=yes
    done
    [ -n "$stale" ] || return 0

    # An interrupted venv has a Python but no pip.
    "$python" -m pip --version >/dev/null 2>&1 || make_venv
    list=$(IFS=,; echo "$*")
    say "installing zbus-broker[$list] into .venv (once; a minute or two)"
    "$python" -m pip install --quiet --disable-pip-version-check --editable ".[$list]" ||
        die "pip could not install zbus-broker[$list]; its message is above"
    for extra in "$@"; do
        printf '%s\n' "$stamp" >".venv/stamp-$extra"
    done
}

make_venv() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.11 python3.12 python3.13 python3.14; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
                say "making .venv with $("$candidate" -V)"
                "$candidate" -m venv --clear .venv || die "$candidate could not make .venv"
                return
            fi
            say "$candidate has no venv module (Debian keeps it in the package python3-venv)"
        fi
    done
    die "no Python of at least 3.11 with venv found; name one with PYTHON=/path/to/python"
}

say() { printf 'zbus: %s\n' "$*" >&2; }

die() {
    say "$*"
    exit 1
}
