#!/usr/bin/env bash
# Tests, measures and profiles the kernels on a machine with a GPU that it has never seen, and trains with every attention.
#
#     scripts/on_gpu.sh results/2026-12-01_h100 [--quick] [--revision abc123] [--dry-run]
#
# Ends within 9 minutes (4 with --quick) and prints a table last. Every step has a time limit, and goes without what an earlier
# one broke; what is cut short or left out is said. Needs Python with PyTorch, Triton and pytest, and no network: what training
# needs beside them must lie in wheels/ (scripts/missing_wheels.py says how to fetch it). PYTHON=… names another Python.
# All results are in the folder, which results/ takes as it is: README.md (machine, table), log.txt (all that was printed),
# attention.* (speed), layers.* (memory of a layer, and the longest recording that fits), silence.* (one cluster that holds nearly
# everything), profile.md.
set -euo pipefail
shopt -s inherit_errexit

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT
readonly SCRIPT=$ROOT/scripts/on_gpu.sh
readonly SKIPPED=77
# Name, most seconds, and the seconds that are kept for it while earlier steps run.
readonly STEPS="
gpu_tests      160  60
sanitizer       60  15
benchmark      210 150
layers          60  30
profile         60  25
trainings      160 130
"
# What is kept for the table at the end.
readonly CLOSING=8
readonly ATTENTIONS=(full clustered i_clustered lsh topk oracle_top shared_full)

usage() {
    sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$SCRIPT"
}

complain() {
    printf 'on_gpu.sh: %s\n' "$*" >&2
}

skip() {
    printf '%s\n' "$*"
    exit "$SKIPPED"
}

# Prints a command, and runs it unless this is a dry run.
run() {
    printf '+ %s\n' "$*"
    [[ -n $DRY_RUN ]] || "$@"
}

has_module() {
    "$PYTHON" -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$1') is None)"
}

# --- The steps: what they print last is their headline in the table; exit code 77 leaves them out, and says why.

pytest_command() {
    local parallel=()
    if has_module xdist; then
        parallel=(-n "$((PROCESSORS < 12 ? PROCESSORS : 12))")
    fi
    run "$PYTHON" -m pytest -q -p no:cacheprovider "${parallel[@]}" "$@"
}

step_gpu_tests() {
    local tests=(tests/kernels/test_gpu_*.py tests/inference/decoders/test_gpu_*.py)
    has_module pytest || skip "pytest is not installed"
    [[ -e ${tests[0]} ]] || skip "there is no tests/kernels/test_gpu_*.py"
    pytest_command "${tests[@]}"
}

find_sanitizer() {
    local candidate
    for candidate in "$(command -v compute-sanitizer || true)" /usr/local/cuda*/bin/compute-sanitizer; do
        if [[ -x $candidate ]]; then
            printf '%s\n' "$candidate"
            return
        fi
    done
}

step_sanitizer() {
    local sanitizer
    sanitizer=$(find_sanitizer)
    # Once without it: kernels are compiled then, and a mistake of another kind is not taken for one of memory.
    run "$PYTHON" scripts/check_kernels.py --run --dtypes bfloat16
    [[ -n $sanitizer ]] || skip "compute-sanitizer is not installed; each kernel ran once without it"
    # Every tensor in memory of its own, so that nothing hides what is read beyond its end.
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 run "$sanitizer" --tool memcheck --error-exitcode 9 \
        "$PYTHON" scripts/check_kernels.py --run --dtypes bfloat16
}

step_benchmark() {
    local lengths=(512 1024 2048 4096 8192 16384 32768) batch_heads=(96 12) code=0
    if [[ -n $QUICK ]]; then
        lengths=(2048 8192 32768) batch_heads=(96)
    fi
    # With time left for a last shape and the roofline, and to read what a run that is cut short has written.
    run timeout --foreground --kill-after=2 "$((LIMIT - 5))" "$PYTHON" scripts/benchmark_attention.py --device cuda \
        --dtype bfloat16 --lengths "${lengths[@]}" --batch-heads "${batch_heads[@]}" --dim 64 --seconds 0.15 --graphs --roofline \
        --minutes "$(awk "BEGIN { print ($LIMIT - 60) / 60 }")" --output "$OUTPUT/attention" \
        || code=$?
    [[ -z $DRY_RUN && -s $OUTPUT/attention.csv ]] || return "$code"
    "$PYTHON" - "$OUTPUT/attention.csv" <<'PYTHON_END'
import csv, sys
rows = [row for row in csv.DictReader(open(sys.argv[1])) if row["implementation"].startswith("i_clustered")]
if not rows:
    sys.exit("i_clustered was not measured")
largest = max(int(row["batch_heads"]) for row in rows)
ratios = [
    f"{row['length']}: {row['forward_speedup']} ({row['forward_backward_speedup']})"
    for row in rows
    if int(row["batch_heads"]) == largest
]
print(f"{rows[0]['implementation']} against the best SDPA, forward (with backward): " + ", ".join(ratios))
PYTHON_END
    return "$code"
}

# A layer at up to 262144 steps beside local attention of others; and what one giant cluster costs.
step_layers() {
    local lengths=(1024 4096 16384 65536 262144)
    if [[ -n $QUICK ]]; then
        lengths=(16384 262144)
    fi
    run "$PYTHON" scripts/benchmark_attention.py --device cuda --dtype bfloat16 --lengths 2048 32768 --batch-heads 96 --dim 64 \
        --runs 3 --seconds 0.1 --silence 0.9 --implementations sdpa-flash clustered-100 i_clustered-100 --output "$OUTPUT/silence"
    run "$PYTHON" scripts/benchmark_attention.py --device cuda --dtype bfloat16 --lengths "${lengths[@]}" --batch-heads 6 --dim 64 \
        --runs 3 --seconds 0.1 --by-layer --output "$OUTPUT/layers" --minutes "$(awk "BEGIN { print ($LIMIT - 30) / 60 }")" \
        --implementations sdpa-flash flex-local-128 nemo-local-128 clustered-100 i_clustered-100 lsh-1
    printf 'Memory of a layer and the longest recording in 80 and 141 GB: layers.md; one giant cluster: silence.md\n'
}

step_profile() {
    run "$PYTHON" scripts/profile_attention.py --attention i_clustered-100 --lengths 2048 8192 32768 --batch-heads 96 --dim 64 \
        --dtype bfloat16 --output "$OUTPUT/profile.md"
}

# All at the same time, because one of them alone leaves most of a GPU idle; so their times say nothing, their error rates do.
step_trainings() {
    local hours=2 attention left
    if [[ -n $QUICK ]]; then
        hours=1
    fi
    [[ -z $LACKING ]] || skip "wheels are missing: $LACKING"
    export OMP_NUM_THREADS=1
    run "$PYTHON" scripts/prepare.py spoken "hours=$hours" "cache=$WORK/cache" "workers=$PROCESSORS"
    # Without the time to start, and to score at the end.
    left=$((LIMIT - SECONDS))
    for attention in "${ATTENTIONS[@]}"; do
        run timeout --foreground --kill-after=2 "$((left - 6))" "$PYTHON" train.py "attention=$attention" corpus=spoken \
            "corpus.hours=$hours" "max_minutes=$(awk "BEGIN { print ($left - 45) / 60 }")" "cache=$WORK/cache" \
            "run=$WORK/runs/$attention" >"$WORK/$attention.txt" 2>&1 &
    done
    wait
    for attention in "${ATTENTIONS[@]}"; do
        printf '\n--- attention=%s\n' "$attention"
        tail -n 40 "$WORK/$attention.txt"
    done
    [[ -z $DRY_RUN ]] || return 0
    "$PYTHON" - "$WORK/runs" "${ATTENTIONS[@]}" <<'PYTHON_END'
import json, pathlib, sys
rates, failed = [], []
for attention in sys.argv[2:]:
    scores = list(pathlib.Path(sys.argv[1], attention).glob("evaluation/test/*/scores.json"))
    if scores:
        rates.append(f"{attention} {100 * json.loads(scores[0].read_text())['error_rate']:.1f} %")
    else:
        failed.append(attention)
print("PER on synthetic speech: " + ", ".join(rates) + (f"; no result: {', '.join(failed)}" if failed else ""))
sys.exit(bool(failed))
PYTHON_END
}

# --- What the steps are run by.

describe_machine() {
    printf -- '- date: %s\n' "$(date -u '+%Y-%m-%d %H:%M UTC')"
    printf -- '- revision: %s\n' "$REVISION"
    printf -- '- system: %s, %s processors\n' "$(uname -srm)" "$PROCESSORS"
    if command -v nvidia-smi >/dev/null; then
        printf -- '- GPU: %s\n' "$(nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader | paste -sd ';' || true)"
    fi
    "$PYTHON" - <<'PYTHON_END' || true
import importlib.metadata, platform, sys
print(f"- Python {platform.python_version()}: {sys.executable}")
for name in ("torch", "triton", "numpy", "lightning", "pytest"):
    try:
        print(f"- {name} {importlib.metadata.version(name)}")
    except importlib.metadata.PackageNotFoundError:
        print(f"- {name}: not installed")
PYTHON_END
}

revision() {
    local found
    if found=$(git -C "$ROOT" rev-parse --short=12 HEAD 2>/dev/null); then
        [[ -z $(git -C "$ROOT" status --porcelain --untracked-files=no 2>/dev/null) ]] || found+=" with changes"
        printf '%s\n' "$found"
    else
        printf 'unknown (give --revision)\n'
    fi
}

# What trainings need and neither this Python nor wheels/ has; installs the rest into a folder of this run's own.
prepare_packages() {
    local said
    said=$("$PYTHON" "$ROOT/scripts/missing_wheels.py" "$ROOT/wheels" --install "$WORK/packages" 2>&1) && LACKING='' \
        || LACKING=$(sed -n 's/^Not installed, and no wheel in [^:]*: \(.*\)\.$/\1/p' <<<"$said")
    if [[ $said != *installed* ]]; then
        LACKING='scripts/missing_wheels.py failed'
    fi
    printf '%s\n\n' "$said"
}

write_summary() {
    {
        printf '# On a GPU\n\nMade by scripts/on_gpu.sh%s; log.txt has all that was printed.\n\n' "${QUICK:+ --quick}"
        cat "$WORK/machine.md"
        printf '\n| step | status | seconds | headline |\n|---|---|---|---|\n'
        cat "$WORK/rows.md"
    } >"$OUTPUT/README.md"
}

add_row() {
    local headline
    headline=$(tr -d '\r' <<<"$4" | tr '|' '/' | cut -c 1-400)
    printf '| %s | %s | %s | %s |\n' "$1" "$2" "$3" "$headline" >>"$WORK/rows.md"
    write_summary
}

# Runs a step within a limit, its output at the end of log.txt; what is long there loses its middle.
perform() {
    local name=$1 limit=$2 begin=$SECONDS code=0 status headline
    local part=$WORK/$name.log
    printf '%s: at most %d s\n' "$name" "$limit"
    LIMIT=$limit timeout --kill-after=5 "$limit" bash "$SCRIPT" "$OUTPUT" --step "$name" >"$part" 2>&1 </dev/null || code=$?
    headline=$(grep -v '^[[:space:]]*$' "$part" | tail -n 1 || true)
    case $code in
        0) status=passed ;;
        "$SKIPPED") status=skipped ;;
        124 | 137) status="cut short after $limit s" ;;
        *) status="failed ($code)" ;;
    esac
    {
        printf '\n=== %s: %s\n' "$name" "$status"
        if (($(stat -c %s "$part") > 150000)); then
            head -c 40000 "$part"
            printf '\n[…]\n'
            tail -c 100000 "$part"
        else
            cat "$part"
        fi
    } >>"$OUTPUT/log.txt"
    add_row "$name" "$status" "$((SECONDS - begin))" "$headline"
    [[ $code == 0 || $code == "$SKIPPED" ]] || FAILED=1
}

perform_all() {
    local names=() limits=() kept=() name limit least index later left
    while read -r name limit least; do
        [[ -z $name ]] || names+=("$name") limits+=("${limit:-0}") kept+=("${least:-0}")
    done <<<"$STEPS"
    for index in "${!names[@]}"; do
        later=0
        for least in "${kept[@]:index+1}"; do
            later=$((later + least * SHARE / 100))
        done
        left=$((BUDGET - CLOSING - SECONDS - later))
        limit=$((limits[index] * SHARE / 100))
        limit=$((limit < left ? limit : left))
        if ((limit < 10)); then
            add_row "${names[index]}" "skipped" 0 "no time was left"
            FAILED=1
        else
            perform "${names[index]}" "$limit"
        fi
    done
}

dry_run() {
    local name limit least
    while read -r name limit least; do
        [[ -n $name ]] || continue
        printf '\n%s: at most %d s, of which %d are kept for it\n' "$name" "$((limit * SHARE / 100))" "$((least * SHARE / 100))"
        (LIMIT=$((limit * SHARE / 100)) && step_"$name") || true
    done <<<"$STEPS"
}

finish() {
    trap - EXIT
    if [[ -s $WORK/rows.md ]]; then
        printf '\n| step | status | seconds | headline |\n|---|---|---|---|\n'
        cat "$WORK/rows.md"
        printf '\nIn %s after %d s: ' "$OUTPUT" "$SECONDS"
        du -h -s "$OUTPUT" | cut -f 1
    fi
    rm -rf "$WORK"
}

main() {
    local step='' output=''
    QUICK=${QUICK:-} DRY_RUN=${DRY_RUN:-} REVISION=${REVISION:-} LACKING=${LACKING:-} FAILED='' PYTHON=${PYTHON:-python3}
    while (($#)); do
        case $1 in
            -h | --help) usage && return ;;
            --quick) QUICK=1 ;;
            --dry-run) DRY_RUN=1 ;;
            --revision) REVISION=${2:?on_gpu.sh: --revision takes a revision} && shift ;;
            --step) step=${2:?} && shift ;;
            -*) complain "there is no option $1." && usage >&2 && return 2 ;;
            *) output=$1 ;;
        esac
        shift
    done
    [[ -n $output ]] || { complain "name the folder for the results." && usage >&2 && return 2; }
    command -v "$PYTHON" >/dev/null || { complain "there is no $PYTHON here." && return 2; }
    OUTPUT=$(realpath -m "$output")
    cd "$ROOT"
    if [[ -n $step ]]; then
        step_"$step"
        return
    fi
    BUDGET=540 SHARE=100
    if [[ -n $QUICK ]]; then
        BUDGET=240 SHARE=45
    fi
    REVISION=${REVISION:-$(revision)}
    PROCESSORS=$(env -u OMP_NUM_THREADS nproc)
    WORK=$(mktemp -d)
    trap finish EXIT
    trap 'exit 143' TERM
    export QUICK DRY_RUN REVISION LACKING PYTHON WORK PROCESSORS
    export PYTHONPATH="$ROOT:$WORK/packages${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
    export TRITON_CACHE_DIR=$WORK/triton
    unset TRITON_INTERPRET ASR_KERNELS
    describe_machine >"$WORK/machine.md"
    cat "$WORK/machine.md"
    prepare_packages
    [[ -z $DRY_RUN ]] || dry_run
    if ! "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
        complain "there is no GPU here that $PYTHON can use through PyTorch, and nothing is measured without one."
        return 1
    fi
    [[ -z $DRY_RUN ]] || return 0
    mkdir -p "$OUTPUT"
    cp "$WORK/machine.md" "$OUTPUT/log.txt"
    perform_all
    [[ -z $FAILED ]]
}

main "$@"
