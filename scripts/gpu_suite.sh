#!/usr/bin/env bash
# All that a GPU can tell about this checkout, within a few minutes: facts, tests marked `gpu`, figures.
#
#   scripts/gpu_suite.sh --wheels DIR --minutes 8      on a machine without a connection
#   scripts/gpu_suite.sh --toy                         the same on the CPU, with toy models
#
# What it learns is in --out (default $OUT, else runs/gpu) from the moment it is known: a kill costs no more
# than what was being measured. docs/benchmarks/gpu.md has the whole way. PYTHON names the interpreter.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

venv=$root/.venv/bin/python
PYTHON=${PYTHON:-$([ -x "$venv" ] && echo "$venv" || echo python3)}
export PYTHONPATH=$root/scripts:$root${PYTHONPATH:+:$PYTHONPATH}
exec "$PYTHON" -m gpu_suite "$@"
