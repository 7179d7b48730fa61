#!/bin/sh
# Packages that others would take, on the same split, beside our rivals and BiGEL: one scorer that
# reads lists, NDCG and HR, CPU seconds to fit and to rank on one thread. Each package has an
# environment of its own in FOLDER (their needs exclude each other: numpy below 2, and from 2 on).
# Usage: benchmarks/peers/peers.sh PRESET FOLDER_OF_ITS_DATA FOLDER [valid|test]
#     [more options of score.py]
# PYTHON is the interpreter of the environments, python3 without it; PEERS the packages.
set -eu
here=$(dirname "$0")
preset=$1
data=$2
folder=$3
split=${4:-valid}
shift 3
[ $# -eq 0 ] || shift
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
set -- --split "$split" --workspace "$folder" --set "data.path=\"$data\"" --set run.threads=1 \
    --set run.progress=false "$@"
bigel_python=${BIGEL_PYTHON:-python}
"$bigel_python" "$here/export.py" "$preset" "$folder/$preset-$split" "$@"
for peer in ${PEERS:-implicit rectools lenskit}; do
    env=$folder/$peer
    if [ ! -e "$env/ready" ]; then
        "${PYTHON:-python3}" -m venv "$env"
        "$env/bin/pip" install --quiet --requirement "$here/$peer.txt"
        touch "$env/ready"
    fi
    "$env/bin/python" "$here/by_$peer.py" "$folder/$preset-$split"
done
exec "$bigel_python" "$here/score.py" "$preset" "$folder/$preset-$split" "$@"
