#!/usr/bin/env bash
# The tables of docs/accuracy: what merging costs the embedded model, in the form of the paper's tables 4 to 9.
#
#   scripts/accuracy_tables.sh              all of them (about an hour on two cores)
#   scripts/accuracy_tables.sh 'table-5*'   those of that name
#
# Answers are kept in runs/accuracy: a run that was stopped goes on. QUESTIONS (default 650, 50 a task) is how many each table asks; PYTHON names the interpreter.
set -uo pipefail
cd "$(dirname "$0")/.."

venv=.venv/bin/python
PYTHON=${PYTHON:-$([ -x $venv ] && echo $venv || echo python3)}
OUT=${ACCURACY_OUT:-docs/accuracy}
QUESTIONS=${QUESTIONS:-650}
WANTED=${1:-*}
mkdir -p "$OUT" runs/accuracy
failed=()

# ask NAME ARGUMENTS...
ask() {
    local name=$1
    shift
    # shellcheck disable=SC2053  # WANTED is a pattern
    [[ $name == $WANTED ]] || return 0
    echo "== $name" >&2
    "$PYTHON" -m illava_cli.cli.app eval -m tiny --dtype float32 --questions "$QUESTIONS" -o "runs/accuracy/$name.jsonl" \
        --markdown "$OUT/$name.md" "$@" || failed+=("$name")
}

# under NAME SETTINGS: a variant of preset auto
under() { variants+=(--variant "$1: preset=auto $2"); }

methods=(illava attention-prune random greedy bipartite kmeans assign novelty-assign diversity-assign)

variants=()
for method in "${methods[@]}"; do under "tower $method" "method=$method llm=null"; done
under "prumerge, adaptive" "method=prumerge"
under "prumerge, 4/9" "method=prumerge input.keep=4/9"
ask table-4-tower-methods "${variants[@]}"

variants=()
for r in 8 14 20 24 28 32; do under "tower $((144 - 4 * r)) of 144" "vision.r=$r llm=null"; done
ask table-5-tower-kept "${variants[@]}"

variants=()
under "tower {1}" "vision.layers=[1] vision.r=80 llm=null"
under "tower {3}" "vision.layers=[3] vision.r=80 llm=null"
under "tower {5}" "vision.layers=[5] vision.r=80 llm=null"
under "tower {2,3}" "vision.layers=[2, 3] vision.r=40 llm=null"
under "tower {4,5}" "vision.layers=[4, 5] vision.r=40 llm=null"
under "tower {0,1,2,3}" "vision.layers=[0, 1, 2, 3] vision.r=20 llm=null"
under "tower {1,2,3,4}" "vision.layers=[1, 2, 3, 4] vision.r=20 llm=null"
under "tower {2,3,4,5}" "vision.layers=[2, 3, 4, 5] vision.r=20 llm=null"
ask table-6-tower-layers "${variants[@]}"

variants=()
for method in "${methods[@]}" fastv; do under "LLM $method" "method=$method vision=null llm.keep=0.5"; done
ask table-7-llm-methods "${variants[@]}"

variants=()
for keep in 0.83 0.70 0.62 0.55 0.47 0.33; do under "LLM keeps $keep" "llm.keep=$keep"; done
ask table-8-llm-kept "${variants[@]}"

variants=()
for layer in 1 2 3 4; do under "LLM {$layer}" "llm.layers=[$layer]"; done
under "LLM {2,3}" "llm.layers=[2, 3] llm.keep=0.8367"
under "LLM {3,4}" "llm.layers=[3, 4] llm.keep=0.8367"
ask table-9-llm-layers "${variants[@]}"

variants=()
under "grid, packed" "layout=grid positions=packed"
under "faithful, packed" "positions=packed"
under "faithful, original" "positions=original"
ask layout-and-positions "${variants[@]}"

variants=()
for queries in last visual visual-literal; do under "$queries" "llm.queries=$queries vision=null llm.keep=0.5"; done
ask queries --survivors "${variants[@]}"

echo "failed: ${failed[*]:-none}" >&2
exit $((${#failed[@]} > 0))
