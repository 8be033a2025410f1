#!/usr/bin/env bash
# One machine's or one GPU's share of a nightly run over a folder that grows, for cron:
#
#   0 1 * * *  CUDA_VISIBLE_DEVICES=0 nightly.sh /data/photos /data/answers 0 2
#   0 1 * * *  CUDA_VISIBLE_DEVICES=1 nightly.sh /data/photos /data/answers 1 2
#
# Each share has a file of its own. `timeout` ends the night: what is in flight is finished, and the next
# night goes on. A run that is still busy with the file keeps a second one out.
set -uo pipefail
photos=${1:?usage: nightly.sh PHOTOS ANSWERS INDEX COUNT} answers=${2:?} index=${3:?} count=${4:?}
mkdir -p "$answers"

timeout --signal=TERM "${NIGHT:-6h}" \
    illava batch "$photos" --recursive --prompt "What is shown?" --output "$answers/$index-of-$count.jsonl" \
    --num-shards "$count" --shard-index "$index" --retry-failed --timeout 300 \
    2>>"$answers/$index-of-$count.log"
code=$?
# 124: the night was over; 3: some photos failed, and are asked again next night
[[ $code == 0 || $code == 3 || $code == 124 ]] || exit "$code"
