#!/bin/sh
# The ablation of docs/model.md, on validation: BiGEL of a preset with one thing changed at a time.
# Usage: benchmarks/quality/ablation.sh PRESET FOLDER_OF_ITS_DATA [more options of bigel compare]
set -eu
preset=$1
data=$2
shift 2
exec bigel compare "$preset" --set "data.path=\"$data\"" --split valid --models bigel \
    --variant "no CGL=bigel model.cascade=false" \
    --variant "no CGF=bigel model.feedback=false" \
    --variant "no GCE=bigel model.context=false" \
    --variant "no CPA=bigel model.alignment=false" \
    --variant "plain cascade=bigel model.feedback=false model.context=false model.alignment=false" \
    --variant "reversed order=bigel model.order=[2,1,0]" \
    --variant "shuffled order=bigel model.order=[1,2,0]" \
    --variant "view=bigel model.view=true train.edge_dropout=0.5" \
    --variant "user vectors=bigel model.user_vectors=true" \
    --variant "BPR=bigel train.objective=bpr" \
    --variant "popular negatives=bigel train.negative_power=0.5" \
    --variant "1 layer=bigel model.layers=1 model.global_layers=1" \
    --variant "2 layers=bigel model.layers=2 model.global_layers=2" \
    --variant "d 64=bigel model.dim=64" \
    --variant "d 256=bigel model.dim=256" \
    --variant "tau 0.05=bigel model.temperature=0.05" \
    --variant "tau 0.2=bigel model.temperature=0.2" "$@"
