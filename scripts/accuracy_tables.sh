#!/usr/bin/env bash
# The tables of docs/accuracy: what merging costs the embedded models, in the form of the paper's tables 4 to 9.
#
#   scripts/accuracy_tables.sh              all of them (about three hours on two cores)
#   scripts/accuracy_tables.sh 'table-5'    those whose names fit
#
# Answers are kept in runs/accuracy: a run that was stopped goes on. QUESTIONS (default 390, 30 a task) is how many
# each of the tables 4 to 9, layouts and queries asks; PYTHON names the interpreter.
set -uo pipefail
cd "$(dirname "$0")/.."

venv=.venv/bin/python
PYTHON=${PYTHON:-$([ -x $venv ] && echo $venv || echo python3)}
OUT=${ACCURACY_OUT:-docs/accuracy}
QUESTIONS=${QUESTIONS:-390}
WANTED=${1:-*}
mkdir -p "$OUT" runs/accuracy
failed=()

# measure COMMAND NAME ARGUMENTS...   of tiny, or of MODEL
measure() {
    local command=$1 name=$2
    shift 2
    # shellcheck disable=SC2053  # WANTED is a pattern
    [[ $name == $WANTED ]] || return 0
    echo "== $name" >&2
    "$PYTHON" -m illava_cli.cli.app "$command" -m "${MODEL:-tiny}" --dtype float32 --markdown "$OUT/$name.md" "$@" ||
        failed+=("$name")
}

ask() { measure eval "$1" --questions "$QUESTIONS" -o "runs/accuracy/$1.jsonl" "${@:2}"; }

# what presets were chosen by, on questions for validation
stills=(--tasks world:colour,shape,count,existence,position,relation,what-is-at,reading,tiles,multi-image)
measure eval choice-pictures --split validation "${stills[@]}" --questions 400 -o runs/accuracy/choice-pictures.jsonl \
    --preset auto --variant 'illava in the tower: preset=auto vision.image.method=illava' \
    --variant 'diversity-assign in the tower: preset=auto vision.image.method=diversity-assign' \
    --variant 'one layer earlier: preset=auto vision.image.layers=[3,4]' \
    --variant 'diversity-assign in the LLM: preset=auto llm.image.method=diversity-assign' \
    --variant 'a sixth: preset=best vision.image.r=50 llm.image.keep=0.55' \
    --variant 'a sixth by bipartite: preset=auto vision.image.r=50 llm.image.keep=0.55' \
    --variant 'a sixth, more by the LLM: preset=auto llm.image.keep=0.29'
# where schedules differ most, on more questions
measure eval choice-counts --split validation --tasks world:count --questions 1000 -o runs/accuracy/choice-counts.jsonl \
    --preset auto --variant 'more in the tower: preset=auto vision.image.r=40 llm.image.keep=0.70' \
    --variant 'less in the tower: preset=auto vision.image.r=20 llm.image.keep=0.43' \
    --variant 'by diversity-assign: preset=auto vision.image.method=diversity-assign' \
    --variant 'by diversity-assign, more: preset=best vision.image.r=40 llm.image.keep=0.70' \
    --variant 'by diversity-assign, less: preset=best vision.image.r=20 llm.image.keep=0.43' \
    --variant 'LLM alone: preset=auto vision.image=null llm.image.keep=0.31'
clips=(--tasks world:video-direction,video-first,video-blinks)
measure eval choice-clips --split validation "${clips[@]}" --questions 240 -o runs/accuracy/choice-clips.jsonl \
    --variant 'LLM at 4 (auto): preset=auto' \
    --variant 'LLM at 3: preset=auto llm.video.layers=[3]' \
    --variant 'in the tower too: preset=auto vision.video={method: diversity-assign, layers: [4, 5], r: 20} llm.video.keep=0.45' \
    --variant 'before the LLM: preset=off layout=faithful positions=original input={method: fastvid, keep: 0.33}' \
    --variant 'turbo: preset=turbo' \
    --variant 'turbo, its tower alone: preset=turbo input=null' \
    --variant 'turbo, all still frames enter: preset=turbo frames=null' \
    --variant 'turbo, of still frames one enters: preset=turbo frames.still_frames=1' \
    --variant 'turbo by bipartite: preset=turbo input.video.method=bipartite' \
    --variant 'turbo by novelty-assign: preset=turbo input.video.method=novelty-assign' \
    --variant 'turbo by fastvid: preset=turbo input.video.method=fastvid' \
    --variant 'turbo by holitom: preset=turbo input.video.method=holitom' \
    --variant 'half of the frames, then 40%: preset=turbo pixels=null frames={method: runs, layers: [-1], keep: 0.5, still: 3} input={video: {method: fastvid, keep: 0.4}}' \
    --variant 'three fifths of the frames, then 24%: preset=turbo pixels=null frames={method: runs, layers: [-1], keep: 0.6, still: 3} input={video: {method: fastvid, keep: 0.24}}' \
    --variant 'half in the tower, then 25%: preset=auto vision.video={method: diversity-assign, layers: [4, 5], r: 36} llm.video=null input={video: {method: fastvid, keep: 0.25}}' \
    --variant 'three quarters of the frames, half in the tower, then 40%: preset=auto vision.video={method: diversity-assign, layers: [4, 5], r: 36} llm.video=null frames={method: runs, layers: [-1], keep: 0.75} input={video: {method: fastvid, keep: 0.4}}'

measure eval choice-long --split validation --tasks long --num-frames 16 --questions 150 -o runs/accuracy/choice-long.jsonl \
    --preset auto --preset turbo \
    --variant 'turbo, all still frames enter: preset=turbo frames=null' \
    --variant 'turbo, of still frames one enters: preset=turbo frames.still_frames=1' \
    --variant 'turbo by bipartite: preset=turbo input.video.method=bipartite' \
    --variant 'turbo by novelty-assign: preset=turbo input.video.method=novelty-assign' \
    --variant 'half of the frames, then 40%: preset=turbo pixels=null frames={method: runs, layers: [-1], keep: 0.5, still: 3} input={video: {method: fastvid, keep: 0.4}}'

# a third of the tokens, and a sixth
measure eval presets --questions 2002 -o runs/accuracy/presets.jsonl --blind --preset auto --preset paper \
    --variant 'best, a sixth: preset=best vision.image.r=50 llm.image.keep=0.55' \
    --variant 'paper, random: preset=paper method=random' \
    --variant 'paper, grid: preset=paper layout=grid positions=packed vision.r=40 llm.keep=253/361'

# a hand that training did not see
measure eval chalk --tasks chalk --questions 1300 -o runs/accuracy/chalk.jsonl --preset auto --preset paper \
    --variant 'best, a sixth: preset=best vision.image.r=50 llm.image.keep=0.55'

measure eval video-turbo "${clips[@]}" --questions 1800 -o runs/accuracy/video-turbo.jsonl --preset auto --preset turbo
measure eval long-turbo --tasks long --num-frames 16 --questions 600 -o runs/accuracy/long-turbo.jsonl \
    --preset auto --preset turbo

measure eval documents --tasks documents --questions 600 -o runs/accuracy/documents.jsonl --blind --preset auto --preset paper \
    --variant 'predicted ones left out: preset=off layout=faithful pixels={tau: 0}' \
    --variant 'as other pictures: preset=auto llm.image.keep=0.54'

# the other kind of tower
whole='preset=off layout=faithful positions=original'
tower() { echo "vision={image: {method: $1, layers: $2, drop: $3}}"; }
decoder() { echo "llm={image: {method: $1, layers: [$2], keep: $3, queries: last}}"; }
MODEL=tiny-qwen measure eval qwen-choice-pictures --split validation "${stills[@]}" --questions 600 \
    -o runs/accuracy/qwen-choice-pictures.jsonl --preset auto \
    --variant "tower 5 by illava: $whole $(tower illava '[5]' 0.3) $(decoder diversity-assign 3 0.47)" \
    --variant "tower 5 by bipartite: $whole $(tower bipartite '[5]' 0.3) $(decoder diversity-assign 3 0.47)" \
    --variant "LLM 3 by illava: $whole $(tower diversity-assign '[5]' 0.3) $(decoder illava 3 0.47)" \
    --variant "tower 4 and 5: $whole $(tower diversity-assign '[4, 5]' 0.15) $(decoder diversity-assign 3 0.46)" \
    --variant "tower 4 and 5, more of it: $whole $(tower diversity-assign '[4, 5]' 0.3) $(decoder diversity-assign 3 0.7)" \
    --variant "tower 3 and 4, more of it: $whole $(tower diversity-assign '[3, 4]' 0.3) $(decoder diversity-assign 3 0.7)" \
    --variant "tower alone, 4 and 5: $whole $(tower diversity-assign '[4, 5]' 0.42)" \
    --variant "LLM alone, 3: $whole $(decoder diversity-assign 3 0.33)" \
    --variant "LLM alone, 2: $whole $(decoder diversity-assign 2 0.33)"
clip() { echo "$1={video: {method: $2, layers: $3, $4}}"; }
MODEL=tiny-qwen measure eval qwen-choice-clips --split validation "${clips[@]}" --questions 360 -o runs/accuracy/qwen-choice-clips.jsonl \
    --preset auto --preset turbo \
    --variant "LLM 4: $whole $(clip llm diversity-assign '[4]' 'keep: 0.33, queries: last')" \
    --variant "LLM 3 by illava: $whole $(clip llm illava '[3]' 'keep: 0.33, queries: last')" \
    --variant "tower alone, 4 and 5: $whole $(clip vision diversity-assign '[4, 5]' 'drop: 0.42')" \
    --variant "tower alone, 3 and 4: $whole $(clip vision diversity-assign '[3, 4]' 'drop: 0.42')" \
    --variant "half of the frames, their text too: $whole frames={method: runs, layers: [-1], keep: 0.5}" \
    --variant "half of the frames, their text stays: $whole frames={method: runs, layers: [0], keep: 0.5}"

MODEL=tiny-qwen measure eval qwen-presets --questions 2002 -o runs/accuracy/qwen-presets.jsonl --blind --preset auto \
    --variant 'a sixth: preset=auto vision.image.drop=0.4 llm.image.keep=0.28 llm.video.keep=0.17' \
    --variant 'auto, random: preset=auto method=random' \
    --variant 'auto, illava: preset=auto method=illava'
MODEL=tiny-qwen measure eval qwen-documents --tasks documents --questions 600 -o runs/accuracy/qwen-documents.jsonl --blind --preset auto \
    --variant 'predicted ones left out: preset=off layout=faithful pixels={tau: 0}' \
    --variant 'as other pictures: preset=auto llm.image.keep=0.47'
MODEL=tiny-qwen measure eval qwen-turbo "${clips[@]}" --questions 600 -o runs/accuracy/qwen-turbo.jsonl --preset auto --preset turbo

methods=()
for method in illava attention-prune random bipartite kmeans assign novelty-assign diversity-assign fastv prumerge; do
    methods+=(--method "$method")
done
drawing=$("$PYTHON" -c 'import importlib.util as u; print(u.find_spec("matplotlib") is not None)')
[[ $drawing == True ]] && methods+=(--plot "$OUT/methods.png")
# earlier layers than those of auto, at which methods differ more
measure compare methods --preset paper --tasks world --tasks documents --questions 2090 --answers runs/accuracy/methods --keep 1/3 --keep 1/6 \
    --keep 1/10 "${methods[@]}" --set 'vision.layers=[2, 3, 4, 5]' --set vision.r=20 --set llm.queries=last --save "$OUT/methods.json"

for plan in table-4 table-5 table-6 table-7 table-8 table-9 layouts; do ask $plan --plan $plan; done
ask queries --plan queries --survivors

for plan in video-methods video-frames; do
    measure eval $plan "${clips[@]}" --questions 600 -o runs/accuracy/$plan.jsonl --plan $plan
done

echo "failed: ${failed[*]:-none}" >&2
exit $((${#failed[@]} > 0))
