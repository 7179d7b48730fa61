#!/bin/sh
# The JD table of docs/benchmarks.md: every model at its own settings, three seeds, both protocols.
# Usage: [PRESET=tuned.toml] benchmarks/quality/jd.sh FOLDER_OF_JD [more options of bigel compare]
set -eu
data=$1
shift
exec bigel compare "${PRESET:-jd}" --set "data.path=\"$data\"" --seeds 0,1,2 --split test --refit "$@"
