#!/bin/sh
# The back-tests of docs/benchmarks.md: the last nights of two real logs with times, and of the demo's
# synthetic one, in which users and items arrive and leave; default settings.
# Usage: [SEEDS=0,1,2] benchmarks/timed.sh FOLDER_OF_THE_LOGS WORKSPACE [more options of bigel backtest]
set -eu
logs=$(cd "$1" && pwd)
workspace=$2
shift 2
mkdir -p "$workspace"
seeds=${SEEDS:-0,1,2}

settings() { # NAME BEHAVIORS IGNORED
    printf '[data]\npath = "%s"\nbehaviors = [%s]\nignore = [%s]\n' "$logs/$1.parquet" "$2" "$3" \
        >"$workspace/$1.toml"
}

settings deskdrop '"view", "like"' '"bookmark", "comment_created", "follow"'
settings ali2014 '"click", "buy"' '"cart", "fav"'
bigel backtest "$workspace/deskdrop.toml" --nights 14 --every 7 --seeds "$seeds" \
    --workspace "$workspace/deskdrop" "$@"
bigel backtest "$workspace/ali2014.toml" --nights 7 --every 7 --seeds "$seeds" \
    --workspace "$workspace/ali2014" "$@"
bigel backtest demo --nights 7 --every 7 --seeds "$seeds" --workspace "$workspace/demo" "$@"
