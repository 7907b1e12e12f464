#!/usr/bin/env bash
# Make .venv from requirements.lock, and TeX where it can be installed. Does nothing when nothing has changed.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { printf 'error: %s\n' "$*" >&2; exit 2; }
root() { if [ "$(id -u)" = 0 ]; then "$@"; elif sudo -n true 2>/dev/null; then sudo -n "$@"; else return 1; fi; }
# Names of Debian packages; false where they cannot be installed from here.
install() { command -v apt-get >/dev/null && root apt-get update -qq && root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null; }

python=$(command -v python3.11 || command -v python3) || fail "no python3 on PATH; install Python 3.11"
"$python" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || fail "$python is $("$python" -V); Python 3.11 or newer is needed"

stamp=.venv/.locked
wanted=$(cat requirements.lock pyproject.toml workflow/scripts/setup.sh | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "setting up .venv (about 6 GB with CUDA libraries, one to three minutes)" >&2
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        install python3-venv || fail "Python's venv is not installed: apt-get install python3-venv, then run again"
    fi
    [ -x .venv/bin/pip ] || "$python" -m venv --clear .venv
    .venv/bin/pip install --quiet --disable-pip-version-check "$(grep -E '^uv==' requirements.lock | cut -d' ' -f1)"
    .venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python -r requirements.lock
    .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps -e .
    printf '%s\n' "$wanted" > "$stamp"
fi

if ! command -v latexmk >/dev/null; then
    echo "installing TeX" >&2
    install latexmk texlive-latex-recommended lmodern cm-super || echo "no TeX: the PDF will be missing; as root: apt-get install latexmk texlive-latex-recommended" >&2
fi
