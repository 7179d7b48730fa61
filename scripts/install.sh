#!/usr/bin/env bash
# Set up a virtual environment: pinned packages, a CPU build of torch unless TORCH=cuda,
# and torch-scatter, which is compiled once and kept in the user's cache.
set -euo pipefail

venv=${1:-.venv}
here=$(cd "$(dirname "$0")/.." && pwd)
constraints=$here/constraints.txt
python=${PYTHON:-python3}
pin() { sed -n "s/^$1==//p" "$constraints"; }
say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { say "bigel needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@" 2> >(grep -v '^WARNING: Location' >&2); }

say "1/3 torch"
pip install --upgrade --constraint "$constraints" pip setuptools wheel ninja numpy
torch=$(pin torch)
if [ "${TORCH:-}" = cuda ] || [ "$(uname -s)" != Linux ]; then
    "$venv/bin/python" -m pip freeze | grep -q '^torch==.*+cpu' && pip uninstall --yes torch torch-scatter
    pip install "torch==$torch"
else
    pip install "torch==$torch+cpu" 2>/dev/null ||
        pip install "torch==$torch+cpu" --extra-index-url https://download.pytorch.org/whl/cpu ||
        pip install "torch==$torch"
fi

say "2/3 torch-scatter (compiled on the first installation: several minutes)"
build=$("$venv/bin/python" -c 'import sys, torch; print(f"cp{sys.version_info[0]}{sys.version_info[1]}-torch{torch.__version__}")')
wheels=${XDG_CACHE_HOME:-$HOME/.cache}/bigel/wheels/$build
scatter=$(pin torch-scatter)
if ! ls "$wheels"/torch_scatter-"$scatter"-*.whl >/dev/null 2>&1; then
    building=$(mktemp -d)
    trap 'rm -rf "$building"' EXIT
    PATH="$(cd "$venv/bin" && pwd):$PATH" CFLAGS="-g0 ${CFLAGS:-}" \
        pip wheel --no-deps --no-build-isolation --wheel-dir "$building" "torch-scatter==$scatter"
    mkdir -p "$wheels"
    mv "$building"/*.whl "$wheels"/
fi
pip install --no-deps "$wheels"/torch_scatter-"$scatter"-*.whl

say "3/3 bigel and the rest"
pip install --constraint "$constraints" --editable "$here[dev]"
say "ready: $venv/bin/bigel --help"
