#!/bin/sh
# The settings behind the tables: every model searched with as many trials, one after the other.
# OUT gathers the best of each; a stopped search goes on. benchmarks/quality/jd.sh takes OUT by
# PRESET=OUT. A trial is one member; OUT keeps the preset's train.members.
# Usage: benchmarks/quality/tune.sh PRESET FOLDER_OF_ITS_DATA TRIALS OUT.toml [more options]
set -eu
preset=$1
data=$2
trials=$3
out=$4
shift 4
for model in bigel ease ease_per_behavior bpr_mf lightgcn lightgcn_per_behavior lightgcn_shared \
    crgcn mb_cgcn mb_hgcn mule member bvae bigel_paper item_knn als cascading_rank; do
    bigel tune "$preset" --set "data.path=\"$data\"" --model "$model" --trials "$trials" \
        --out "$out" "$@"
    preset=$out
done
