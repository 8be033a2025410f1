#!/usr/bin/env bash
# Builds wheel and sdist into dist/, looks into them, and tries the wheel as a stranger would: in an empty environment, from an
# empty folder. Versions are those of constraints.txt. TORCH_INDEX names an index for torch alone, such as
# https://download.pytorch.org/whl/cpu, where the default one has no build for a CPU.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet build
rm -rf dist
"$work/tools/bin/python" -m build --outdir dist . > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
"$python" scripts/check_dist.py dist

"$python" -m venv "$work/empty"
bin=$work/empty/bin
torch=$(grep '^torch==' constraints.txt)
"$bin/pip" install --quiet ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$torch"
"$bin/pip" install --quiet --constraint constraints.txt dist/*.whl
"$bin/pip" check
"$bin/pip" list

mkdir "$work/folder"
cd "$work/folder"
assets=$("$bin/python" -c 'import illava_cli.assets as a; print(a.__path__[0])')
case $assets in "$root"/*) echo "illava_cli is not that of the wheel: $assets"; exit 1 ;; esac
ask() {
  local expected=$1 answer
  shift
  answer=$("$bin/illava" run -m tiny --no-stream "$@")
  echo "$answer"
  [ "$answer" = "$expected" ] || { echo "expected: $expected"; exit 1; }
}
"$bin/illava" --version
ask circle --image "$assets/shapes.jpg" --prompt "What shape is the red one?"
ask 3 --image "$assets/shapes.jpg" --prompt "How many shapes are there?"
ask right --video "$assets/shapes.mp4" --num-frames 8 --prompt "Which way does the circle move?"
"$bin/illava" config presets > /dev/null
echo "the wheel works"
