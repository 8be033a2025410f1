#!/usr/bin/env bash
# What merging costs the photograph model (scripts/real_model.py): docs/accuracy/photographs.md.
#
#   scripts/real/tables.sh runs/real
#
# Answers are kept there: a run that was stopped goes on. QUESTIONS (default 600) is how many are asked; PYTHON names
# the interpreter.
set -euo pipefail
cd "$(dirname "$0")/../.."

WORK=${1:?name the folder of the run}
PYTHON=${PYTHON:-.venv/bin/python}

# one padded square of 196 tokens, as it was trained; tower layers in the middle third, as presets have them
base='preset=off layout=faithful positions=original'
tower() { echo "vision={method: $1, layers: [5, 6, 7, 8], r: $2}"; }
decoder() { echo "llm={method: $1, layers: [3], keep: $2, queries: last}"; }

variants=()
for method in illava diversity-assign bipartite random; do
    ranking=$([[ $method == random ]] && echo random || echo illava)
    variants+=(--variant "$method, a third: $base $(tower $method 24) $(decoder $ranking 0.65)")
    variants+=(--variant "$method, a sixth: $base $(tower $method 32) $(decoder $ranking 0.48)")
done
variants+=(--variant "illava in the tower alone, a third: $base $(tower illava 33)")
variants+=(--variant "illava in the LLM alone, a third: $base $(decoder illava 0.333)")
variants+=(--variant "illava in the LLM alone, a sixth: $base $(decoder illava 0.167)")

exec "$PYTHON" -m illava_cli.cli.app eval -m "$WORK/model" --tasks "$WORK/heldout.jsonl" --max-tiles 1 --dtype float32 \
    --limit "${QUESTIONS:-600}" --blind -o "$WORK/answers.jsonl" --markdown docs/accuracy/photographs.md "${variants[@]}"
