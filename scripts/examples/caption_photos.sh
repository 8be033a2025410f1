#!/usr/bin/env bash
# A caption beside every photo of a folder, as PHOTO.txt; run it again after new photos came.
#
#   scripts/examples/caption_photos.sh ~/Pictures
#   ILLAVA_MODEL=qwen2-vl-2b scripts/examples/caption_photos.sh ~/Pictures 'Name what is shown in five words.'
set -euo pipefail
cd "${1:?usage: caption_photos.sh FOLDER [PROMPT]}"

# what was captioned before is skipped; exit 3 says that some photos are broken, and they have no caption
illava batch . --recursive --out-dir . --prompt "${2:-Describe this photo in one sentence.}" || [[ $? == 3 ]]
