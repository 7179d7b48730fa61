#!/usr/bin/env bash
# Set up a virtual environment: pinned packages, a CPU build of torch unless TORCH=cuda, and
# torch-scatter: from the user's cache, else PyG's wheel, else compiled while the rest installs.
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
venv=$(cd "$venv" && pwd)
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@" 2> >(grep -v '^WARNING: Location' >&2); }

building=$(mktemp -d)
work=  # process groups in the background
trap 'for one in $work; do kill -- "-$one" 2>/dev/null; done; rm -rf "$building"' EXIT

set -m  # each in a process group of its own, so that an interrupt ends compilers, too
count() { find "$@" 2>/dev/null | wc -l || true; }  # of files that may come and go meanwhile
begin() { "$@" & work="$work $!"; }

finish() {  # what was begun, with a line that moves: rewritten on a terminal, else one every 15 s
    local line every=15 end='\n' one
    [ -t 2 ] && every=1 end='\r'
    while [ -n "$(jobs -rp)" ]; do
        line="    $SECONDS s: $(count "$venv"/lib/python*/site-packages -maxdepth 1 -name '*.dist-info')"
        line="$line of $(grep -c == "$constraints") packages installed"
        [ -z "${compiling:-}" ] ||
            line="$line, $(count "$building" -name '*.o') files of torch-scatter compiled"
        printf "%s$end" "$line" >&2
        for _ in $(seq "$every"); do [ -z "$(jobs -rp)" ] || sleep 1; done
    done
    [ ! -t 2 ] || echo >&2
    for one in $work; do wait "$one"; done
    work=
}

torch=$(pin torch)
torch() {
    pip install --upgrade --constraint "$constraints" pip setuptools wheel numpy
    if [ "${TORCH:-}" = cuda ] || [ "$(uname -s)" != Linux ]; then
        "$venv/bin/python" -m pip freeze | grep -q '^torch==.*+cpu' && pip uninstall --yes torch torch-scatter
        pip install "torch==$torch"
    else
        pip install "torch==$torch+cpu" 2>/dev/null ||
            pip install "torch==$torch+cpu" --extra-index-url https://download.pytorch.org/whl/cpu ||
            pip install "torch==$torch"
    fi
}

say "1/3 torch"
begin torch
finish

scatter=$(pin torch-scatter)
version=$("$venv/bin/python" -c 'import torch; print(torch.__version__)')
wheels=${XDG_CACHE_HOME:-$HOME/.cache}/bigel/wheels/$("$venv/bin/python" -c 'import sys; print(f"cp{sys.version_info[0]}{sys.version_info[1]}")')-torch$version
wheel() { find "$wheels" -name "torch_scatter-$scatter*.whl" 2>/dev/null | head -n 1; }

prebuilt() {  # PyG's own wheel for this torch, kept only if it can be imported
    pip download --no-deps --only-binary :all: --no-index --timeout 5 --retries 0 \
        --find-links "https://data.pyg.org/whl/torch-$version.html" \
        --dest "$building/prebuilt" "torch-scatter==$scatter" >/dev/null 2>&1 &&
        pip install --no-deps "$building"/prebuilt/*.whl &&
        "$venv/bin/python" -c 'import torch_scatter' 2>/dev/null &&
        mkdir -p "$wheels" && mv "$building"/prebuilt/*.whl "$wheels"/
}

compile() {  # one extension on each core; nvcc's way through setuptools is not safe in threads
    local settings=$building/settings.cfg
    case $(uname -s)$version in Darwin* | *+cpu)
        printf '[build_ext]\nparallel = %s\n' "$(getconf _NPROCESSORS_ONLN)" > "$settings"
        export DIST_EXTRA_CONFIG=$settings FORCE_ONLY_CPU=1 ;;
    esac
    PATH=$venv/bin:$PATH CFLAGS="-g0 ${CFLAGS:-}" TMPDIR=$building \
        pip wheel --no-deps --no-build-isolation --wheel-dir "$building" "torch-scatter==$scatter"
    mkdir -p "$wheels"
    mv "$building"/*.whl "$wheels"/
}

rest() {  # what pyproject.toml names, without what is installed by itself
    local names
    names=$("$venv/bin/python" - "$here/pyproject.toml" <<'PYTHON'
import sys, tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
names = {*project["dependencies"], *project["optional-dependencies"]["dev"]}
print(*sorted(names - {"torch", "torch-scatter"}))
PYTHON
    )
    # shellcheck disable=SC2086  # names are words
    pip install --constraint "$constraints" $names
}

say "2/3 everything else"
begin rest
if [ -z "$(wheel)" ] && ! prebuilt; then
    say "    torch-scatter is compiled meanwhile (minutes, once)"
    compiling=yes
    begin compile
fi
finish

say "3/3 torch-scatter and bigel"
pip install --no-deps "$(wheel)"
pip install --no-deps --no-build-isolation --editable "$here"
say "ready in $SECONDS s: $venv/bin/bigel --help"
