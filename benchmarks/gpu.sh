#!/bin/sh
# All that is to be measured on a machine with a GPU, in at most eight minutes: whether it trains as the
# CPU does, the time of a step and of its messages by both backends for logs of four sizes, in float32
# and bfloat16, with and without TF32, and a whole training on JD.
# Usage: [DEVICE=cuda] [PYTHON=python] benchmarks/gpu.sh WORKSPACE [FOLDER_OF_JD]
# Each part has a limit; one that fails or runs over it does not stop the others, and what it printed
# by then stands.
set -u
workspace=$1
jd=${2:-}
here=$(dirname "$0")
device=${DEVICE:-cuda}
failed=0

part() { # SECONDS SCRIPT ARGUMENTS…
    limit=$1
    script=$2
    shift 2
    echo "## $script $*"
    timeout "$limit" "${PYTHON:-python}" "$here/$script" "$@" ||
        { echo "not done: exit status $?, limit $limit s" && failed=1; }
}

part 70 gpu.py demo --workspace "$workspace" --device "$device" --against cpu --set train.max_steps=30
part 40 step.py ${jd:+--data "$jd"} --set "run.device=$device"
for rows in 1000000 10000000; do
    part 45 step.py --rows $rows --set "run.device=$device" --set train.users_per_step=0
done
for senders in 0 20000; do
    part 90 step.py --rows 100000000 --set "run.device=$device" --set train.users_per_step=$senders --repeat 5
done
if [ -n "$jd" ]; then
    part 100 gpu.py jd --workspace "$workspace" --device "$device" --set "data.path=$jd" \
        --set train.refit=false
fi
exit $failed
