#!/usr/bin/env bash
# The standard suite on this machine: a JSON report for each case and one Markdown page of them all.
#
#   scripts/bench_suite.sh              everything (CPU: about an hour on two cores)
#   scripts/bench_suite.sh 'llava-7b*'  the cases of that name; what others measured before stays
#
# Files are docs/benchmarks/MACHINE.CASE.json and MACHINE.md; each report holds its machine, versions
# and command. The GPU's cases run where there is CUDA, the CPU's elsewhere; what did not run, or failed,
# stands on the page as not measured. PYTHON names the interpreter, BENCH_OUT another folder.
set -uo pipefail
cd "$(dirname "$0")/.."

venv=.venv/bin/python
PYTHON=${PYTHON:-$([ -x $venv ] && echo $venv || echo python3)}
OUT=${BENCH_OUT:-docs/benchmarks}
WANTED=${1:-*}

machine=$("$PYTHON" -c 'from illava_cli.bench.machine import slug; print(slug())') || exit 1
device=$("$PYTHON" -c 'import torch; print("gpu" if torch.cuda.is_available() else "cpu")') || exit 1
drawing=$("$PYTHON" -c 'import importlib.util as u; print(u.find_spec("matplotlib") is not None)')
mkdir -p "$OUT"

files=() failed=()

# measure DEVICE CASE ARGUMENTS...
measure() {
    local on=$1 name=$2
    local file="$OUT/$machine.$name.json"
    shift 2
    files+=("$file")
    # shellcheck disable=SC2053  # WANTED is a pattern
    [[ $on == "$device" && $name == $WANTED ]] || return 0
    echo "== $name" >&2
    rm -f "$file"
    "$PYTHON" -m illava_cli.cli.app bench "$@" --save "$file" || failed+=("$name")
}

draw=() draw_parts=()
if [[ $drawing == True ]]; then
    draw=(--plot "$OUT/$machine.tower-frames.png")
    draw_parts=(--plot "$OUT/$machine.llava-0.5b-profile.png")
fi
growing=(--frames 8 --frames 16 --frames 32 --frames 64)
both=(--batch-size 1 --batch-size 8)

small="random:llava-onevision-0.5b" qwen="random:qwen2-vl-2b" large="random:llava-onevision-7b"
toy="random:llava-onevision-toy"

grids=(--preset paper --preset video) half=(--dtype bfloat16) off=(--preset auto --preset off)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# picture EDGE: a square file of so many pixels a side
picture() {
    local file=$scratch/$1x$1.png
    "$PYTHON" -c 'import sys; from PIL import Image; edge = int(sys.argv[1])
Image.linear_gradient("L").resize((edge, edge)).convert("RGB").save(sys.argv[2])' "$1" "$file" && echo "$file"
}

small_picture=$(picture 112) || exit 1 # few enough tokens for auto to leave it whole
megapixel=$(picture 1024) || exit 1
measure cpu llava-0.5b-1-tile -m $small "${grids[@]}" "${off[@]}" --tiles 1 --repeats 5
measure cpu llava-0.5b-1-tile-bfloat16 -m $small "${grids[@]}" "${off[@]}" --tiles 1 "${half[@]}" --repeats 5
measure cpu llava-0.5b-5-tiles -m $small "${grids[@]}" "${off[@]}" --tiles 5 "${half[@]}" --repeats 3
measure cpu llava-0.5b-4-frames -m $small "${grids[@]}" "${off[@]}" --frames 4 --repeats 3
measure cpu llava-0.5b-8-frames -m $small "${grids[@]}" "${off[@]}" --frames 8 "${half[@]}" --repeats 3
measure cpu llava-0.5b-batch -m $small --preset paper --tiles 1 "${both[@]}" "${half[@]}" --repeats 3
measure cpu llava-0.5b-profile -m $small "${grids[@]}" --profile --tiles 1 --frames 4 --repeats 3 "${draw_parts[@]}"
measure cpu llava-0.5b-rivals -m $small --rivals --repeats 30
measure cpu llava-7b-rivals-32-frames -m $large --rivals --tokens 6272 "${half[@]}" --repeats 3
measure cpu qwen2-vl-2b-small -m $qwen --image "$small_picture" "${off[@]}" "${half[@]}" --repeats 5
measure cpu qwen2-vl-2b-1-tile -m $qwen "${off[@]}" --tiles 1 "${half[@]}" --repeats 3
measure cpu qwen2-vl-2b-5-tiles -m $qwen "${off[@]}" --tiles 5 "${half[@]}" --repeats 3
measure cpu qwen2-vl-2b-video -m $qwen "${off[@]}" --frames 4 --frames 8 "${half[@]}" --repeats 3
for name in qwen3-vl-2b qwen3.5-0.8b internvl3-1b gemma-4-e2b; do
    measure cpu $name-1-megapixel -m random:$name --image "$megapixel" "${off[@]}" "${half[@]}" --repeats 3
    measure cpu $name-8-frames -m random:$name --frames 8 "${off[@]}" "${half[@]}" --repeats 3
done
for frames in 16 32; do
    measure cpu llava-0.5b-turbo-$frames-frames -m $small --preset turbo "${off[@]}" --frames $frames "${half[@]}" --repeats 3
    measure cpu qwen2-vl-2b-turbo-$frames-frames -m $qwen --preset turbo "${off[@]}" --frames $frames "${half[@]}" --repeats 3
done
measure cpu tower-frames -m $toy --tower "${growing[@]}" --set model.vision_chunk_mb=16 --repeats 5 "${draw[@]}"

gpu=(--device cuda --new-tokens 32 --repeats 5)
measure gpu llava-0.5b-images -m $small --tiles 1 --tiles 5 --tiles 10 "${both[@]}" "${gpu[@]}"
measure gpu llava-0.5b-video -m $small --frames 32 "${both[@]}" "${gpu[@]}"
measure gpu llava-7b-images -m $large "${grids[@]}" --tiles 1 --tiles 5 --tiles 10 "${both[@]}" "${gpu[@]}"
# auto has the schedule of video in layout faithful
measure gpu llava-7b-video -m $large --preset video --preset auto --frames 32 "${both[@]}" "${gpu[@]}"
# beyond 167 frames only the merged prompt fits the model's context, so that `off` stays away
measure gpu llava-7b-context -m $large --preset video "${growing[@]}" --frames 128 --frames 256 "${gpu[@]}"
measure gpu llava-7b-profile -m $large --profile --tiles 1 --tiles 10 --frames 32 "${gpu[@]}"
measure gpu llava-7b-tower -m $large --tower "${growing[@]}" --frames 128 --device cuda --repeats 5
for size in vicuna-7b vicuna-13b 34b; do
    measure gpu llava-next-$size -m random:llava-next-$size --preset llava-next "${off[@]}" --tiles 5 "${both[@]}" "${gpu[@]}"
done
for name in qwen2-vl-2b qwen2-vl-7b qwen2.5-vl-7b qwen3-vl-8b qwen3.5-9b internvl3-8b gemma-4-e4b; do
    measure gpu $name -m random:$name "${off[@]}" --tiles 5 --frames 32 "${both[@]}" "${gpu[@]}"
done
for method in illava attention-prune random fastv bipartite greedy kmeans assign novelty-assign diversity-assign; do
    measure gpu llava-7b-method-$method -m $large --preset auto --method $method --tiles 5 "${both[@]}" "${gpu[@]}"
done
measure gpu llava-7b-rivals -m $large --rivals --device cuda --repeats 100

# beside the page and then in its place: a page that fails must not empty the one before
"$PYTHON" -m illava_cli.bench.markdown "${files[@]}" >"$OUT/$machine.md.new" || exit 1
mv "$OUT/$machine.md.new" "$OUT/$machine.md"
echo "wrote $OUT/$machine.md" >&2
if ((${#failed[@]})); then
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
