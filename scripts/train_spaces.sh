#!/usr/bin/env bash
# Trains with each space of clustering, and scores each under weights that were trained with full attention.
#
#     scripts/train_spaces.sh runs/spaces [short] [long]
#
# short: the default corpus, 259 frames on average, about 7 minutes a training on two cores; long: 775 frames, about as long.
# Three seeds, 25 and 100 clusters, and the spaces hash (the paper's setting), queries and scores. A training that has ended
# and a score that is there are not done again, and one that was stopped goes on: start it once more. table.csv has a line for
# each. PYTHON=... names another Python, MORE="..." adds settings to each training.
set -euo pipefail

folder=${1:?name a folder for the runs}
shift
lengths=(${@:-short long})
python=${PYTHON:-python}
read -ra more <<<"${MORE:-}"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Settings of a space: the paper's, or ours.
clustering() {
    case $1 in
        hash) echo space=hash seeds=even iterations=10 ;;
        *) echo "space=$1 seeds=path iterations=2" ;;
    esac
}

# train RUN SETTINGS...: a run that has a model has ended, one with a configuration goes on.
train() {
    local run=$1
    shift
    if [[ -f $run/model/model.json ]]; then
        return
    elif [[ -f $run/config.yaml ]]; then
        "$python" train.py resume="$run"
    else
        "$python" train.py run="$run" report=false "$@" "${more[@]}"
    fi
}

# score RUN LABEL SETTINGS...: the test's error rate under these settings, into table.csv.
score() {
    local run=$1 output=$1/spaces/$2
    shift 2
    [[ -f $output/scores.json ]] || "$python" evaluate.py checkpoint="$run" report=false output="$output" "$@"
    "$python" -c 'import json, sys; output, run = sys.argv[1:]; scores = json.load(open(output + "/scores.json"))
print(run, output.rsplit("/", 1)[1], scores["error_rate"], *scores["interval"], sep=",")' \
        "$output" "$run" >>"$folder/table.csv"
}

mkdir -p "$folder"
echo run,attention,error_rate,low,high >"$folder/table.csv"
for length in "${lengths[@]}"; do
    corpus=()
    if [[ $length == long ]]; then
        # Without subsampling a model starts from one that was trained with full attention: clusters fine-tune it.
        corpus=(corpus.shape=wsj encoder.subsampling=1)
        train "$folder/long-start" attention=full "${corpus[@]}" max_epochs=6
        corpus+=("init_from=$folder/long-start" max_epochs=2 optimizer.lr=0.0005)
    fi
    for seed in 1 2 3; do
        train "$folder/$length-full-$seed" attention=full seed=$seed "${corpus[@]}"
        score "$folder/$length-full-$seed" full
        for clusters in 25 100; do
            for space in hash queries scores; do
                read -ra knobs <<<"attention=i_clustered clusters=$clusters $(clustering "$space")"
                train "$folder/$length-$space-$clusters-$seed" "${knobs[@]}" seed=$seed "${corpus[@]}"
                score "$folder/$length-$space-$clusters-$seed" own
                score "$folder/$length-full-$seed" "$space-$clusters" "${knobs[@]}"
            done
        done
    done
done
