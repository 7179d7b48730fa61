#!/bin/sh
# The Taobao table of docs/benchmarks.md: every model at its own settings, three seeds.
# Usage: [PRESET=tuned.toml] benchmarks/quality/taobao.sh FOLDER_OF_TAOBAO [more options of bigel compare]
set -eu
data=$1
shift
exec bigel compare "${PRESET:-taobao}" --set "data.path=\"$data\"" --seeds 0,1,2 --split test --refit "$@"
