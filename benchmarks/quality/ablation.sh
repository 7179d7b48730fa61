#!/bin/sh
# The ablations of docs/model.md, on validation: BiGEL of a preset with one thing changed at a time,
# each as trained and calibrated, as bigel compare shows them. PART is modules (what is left out,
# and the order of the cascade) or settings (sizes, layers, temperatures, training). The lists are
# made for the preset jd; the variants of order are for three behaviors.
# Usage: benchmarks/quality/ablation.sh PART PRESET FOLDER_OF_ITS_DATA [more options of bigel compare]
set -eu
part=$1
preset=$2
data=$3
shift 3
no_modules="model.feedback=false model.context=false model.alignment=false"
no_views="model.view=false model.own_view=false"
case $part in
modules)
    set -- \
        --variant "no CGL=bigel model.cascade=false" \
        --variant "no CGF=bigel model.feedback=false" \
        --variant "no GCE=bigel model.context=false" \
        --variant "no CPA=bigel model.alignment=false" \
        --variant "no global view=bigel model.view=false" \
        --variant "no own view=bigel model.own_view=false" \
        --variant "no trend=bigel model.trend=false" \
        --variant "no memory=bigel model.memory=false" \
        --variant "plain cascade=bigel $no_modules $no_views" \
        --variant "each graph alone, one table=bigel model.cascade=false $no_modules $no_views" \
        --variant "each graph alone, user vectors=bigel model.cascade=false $no_modules $no_views model.user_vectors=true" \
        --variant "views, each graph alone, user vectors=bigel model.cascade=false $no_modules model.user_vectors=true" \
        --variant "reversed order=bigel model.order=[2,1,0]" \
        --variant "shuffled order=bigel model.order=[1,2,0]" \
        "$@"
    ;;
settings)
    set -- \
        --variant "user vectors=bigel model.user_vectors=true" \
        --variant "1 layer=bigel model.layers=1 model.global_layers=1 model.view_layers=1 model.own_view_layers=1" \
        --variant "2 layers=bigel model.layers=2 model.global_layers=2 model.view_layers=2 model.own_view_layers=2" \
        --variant "3 layers=bigel model.layers=3 model.global_layers=3 model.view_layers=3 model.own_view_layers=3" \
        --variant "d 32=bigel model.dim=32" \
        --variant "d 128=bigel model.dim=128" \
        --variant "d 256=bigel model.dim=256" \
        --variant "tau 0.05=bigel model.temperature=0.05" \
        --variant "tau 0.2=bigel model.temperature=0.2" \
        --variant "no edge dropout=bigel train.edge_dropout=0" \
        --variant "BPR=bigel train.objective=bpr" \
        --variant "popular negatives=bigel train.negative_power=0.5" \
        "$@"
    ;;
*)
    echo "error: PART is modules or settings, not $part" >&2
    exit 2
    ;;
esac
exec bigel compare "$preset" --set "data.path=\"$data\"" --split valid --models bigel "$@"
