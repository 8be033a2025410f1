#!/usr/bin/env bash
# The tables of docs/accuracy: what merging costs the embedded model, in the form of the paper's tables 4 to 9.
#
#   scripts/accuracy_tables.sh              all of them (about two hours on two cores)
#   scripts/accuracy_tables.sh 'table-5'    those whose names fit
#
# Answers are kept in runs/accuracy: a run that was stopped goes on. QUESTIONS (default 390, 30 a task) is how many
# each table asks, but for the presets, which are asked 2,002; PYTHON names the interpreter.
set -uo pipefail
cd "$(dirname "$0")/.."

venv=.venv/bin/python
PYTHON=${PYTHON:-$([ -x $venv ] && echo $venv || echo python3)}
OUT=${ACCURACY_OUT:-docs/accuracy}
QUESTIONS=${QUESTIONS:-390}
WANTED=${1:-*}
mkdir -p "$OUT" runs/accuracy
failed=()

# measure COMMAND NAME ARGUMENTS...
measure() {
    local command=$1 name=$2
    shift 2
    # shellcheck disable=SC2053  # WANTED is a pattern
    [[ $name == $WANTED ]] || return 0
    echo "== $name" >&2
    "$PYTHON" -m illava_cli.cli.app "$command" -m tiny --dtype float32 --markdown "$OUT/$name.md" "$@" ||
        failed+=("$name")
}

ask() { measure eval "$1" --questions "$QUESTIONS" -o "runs/accuracy/$1.jsonl" "${@:2}"; }

measure eval presets --questions 2002 -o runs/accuracy/presets.jsonl --blind --preset auto --preset paper \
    --variant 'paper, random: preset=paper method=random' \
    --variant 'paper, grid: preset=paper layout=grid positions=packed vision.r=40 llm.keep=253/361' \
    --variant 'early, grid: preset=paper layout=grid positions=packed vision.layers=[2,3,4,5] vision.r=20 llm.layers=[2] llm.keep=253/361'

methods=()
for method in illava attention-prune random bipartite kmeans assign novelty-assign diversity-assign fastv prumerge; do
    methods+=(--method "$method")
done
drawing=$("$PYTHON" -c 'import importlib.util as u; print(u.find_spec("matplotlib") is not None)')
[[ $drawing == True ]] && methods+=(--plot "$OUT/methods.png")
# earlier layers than those of auto, at which no method loses anything
methods+=(--set 'vision.layers=[2, 3, 4, 5]' --set vision.r=20 --set llm.queries=last)
measure compare methods --questions "$QUESTIONS" --answers runs/accuracy/methods --keep 1/3 --keep 1/6 "${methods[@]}" \
    --save "$OUT/methods.json"

# where methods differ: budgets below those that cost nothing, and more questions
steep=()
for method in illava attention-prune random bipartite kmeans assign novelty-assign diversity-assign; do
    steep+=(--method "$method")
done
measure compare steep --questions 1300 --answers runs/accuracy/steep --keep 1/6 --keep 1/10 "${steep[@]}" \
    --set 'vision.layers=[2, 3, 4, 5]' --set vision.r=20 --set llm.queries=last

for plan in table-4 table-5 table-6 table-7 table-8 table-9 layouts; do ask $plan --plan $plan; done
ask queries --plan queries --survivors

clips=(--tasks world:video-direction,video-first,video-blinks)
measure eval video-turbo "${clips[@]}" --questions 1800 -o runs/accuracy/video-turbo.jsonl --preset auto --preset turbo
for plan in video-methods video-frames; do
    measure eval $plan "${clips[@]}" --questions 600 -o runs/accuracy/$plan.jsonl --plan $plan
done
measure eval documents --tasks documents --questions 300 -o runs/accuracy/documents.jsonl --preset auto \
    --variant 'as other pictures: preset=auto vision.image.r=40 llm.image.keep=0.7'

echo "failed: ${failed[*]:-none}" >&2
exit $((${#failed[@]} > 0))
