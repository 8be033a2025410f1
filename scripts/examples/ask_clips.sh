#!/usr/bin/env bash
# The clips of a folder to which a question is answered so; needs jq.
#
#   scripts/examples/ask_clips.sh clips/ 'Does somebody fall? Answer yes or no.' yes
set -euo pipefail
clips=${1:?usage: ask_clips.sh FOLDER QUESTION ANSWER} question=${2:?a question} answer=${3:?an answer}

find "$clips" \( -name '*.mp4' -o -name '*.mkv' \) -print0 | sort -z |
    illava batch - --null --prompt "$question" --num-frames 8 --max-tokens 8 --quiet |
    jq -r --arg answer "$answer" \
        'select(.status == "ok") | select(.text | ascii_downcase | startswith($answer | ascii_downcase)) | .id' ||
    [[ ${PIPESTATUS[2]} == 3 ]] # some clips are broken
