"""Kills and resumes a real training many times: python scripts/soak_resume.py --kills 20

One training runs undisturbed. A second, with the same settings, is killed at random steps and resumed until it ends. All losses,
gradient norms, learning rates and error rates that they log must agree to the last digit, and so must the weights.
"""

from __future__ import annotations

import argparse
import csv
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# a training of a few seconds, with every kind of state that resuming must restore
SMALL = [
    "corpus.hours=0.01", "corpus.shape=short", "corpus.dev_minutes=0.2", "corpus.test_minutes=0.2", "encoder.layers=1",
    "encoder.heads=2", "encoder.head_dim=16", "encoder.feed_forward=64", "encoder.dropout=0.1", "max_epochs=12",
    "trainer.validations=4", "data.batch_frames=1500", "checkpoint_steps=2", "moving_average=0.9", "schedule=plateau",
    "logger=none", "report=false",
]  # fmt: skip
# times always differ
NOT_COMPARED = ("seconds", "train/waiting")


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    program = [sys.executable, str(ROOT / "train.py"), *arguments]
    return subprocess.Popen(program, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen) -> str:
    said, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"a training failed with exit code {process.returncode}:\n{said}")
    return said


def wait_for_a_validation(process: subprocess.Popen) -> None:
    """Reads a training's output until it has validated once. Raises SystemExit if it ends before."""
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("epoch"):
            return
    raise SystemExit("".join(["a training ended before its first validation:\n", *said]))


def kill_at(process: subprocess.Popen, metrics: Path, row: int, number: signal.Signals) -> bool:
    """Sends the signal once `metrics` has `row` rows; False if the training ended first."""
    while process.poll() is None:
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= row:
            process.send_signal(number)
            process.communicate()
            return True
        time.sleep(0.002)
    said, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"a training failed with exit code {process.returncode}:\n{said}")
    return False


def logged(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", encoding="utf8", newline="") as lines:
        return [{name: row[name] for name in row if name not in NOT_COMPARED} for row in csv.DictReader(lines)]


def differences(undisturbed: Path, killed: Path) -> list[str]:
    """The differences between two runs, in rows of metrics and in weights."""
    from asr.model.checkpoint import read_tensors

    first, second = logged(undisturbed), logged(killed)
    found = [f"{len(first)} rows of metrics and {len(second)}"] if len(first) != len(second) else []
    found += [f"{one} and {other}" for one, other in zip(first, second) if one != other]
    for name in ("best.ckpt", "last.ckpt"):
        weights = [read_tensors(run / "checkpoints" / name)["state_dict"] for run in (undisturbed, killed)]
        found += [f"{name}: {key}" for key in weights[0] if not weights[0][key].equal(weights[1][key])]
    return found


def soak(folder: Path, kills: int, seed: int, number: signal.Signals, settings: list[str], say=print) -> int:
    """Kills a training up to `kills` times; returns how often it did. Raises SystemExit if anything differs."""
    settings = [*SMALL, "trainer.log_every_n_steps=1", *settings]
    if not (folder / "undisturbed").exists():
        finish(start(folder, *settings, "run=undisturbed"))
    rows = len(logged(folder / "undisturbed"))
    chance, metrics, done = random.Random(seed), folder / "killed" / "metrics.csv", 0
    process = start(folder, *settings, "run=killed")
    while done < kills:
        # in the near future, so that all kills fit into the training
        there = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        row = min(rows, there + chance.randint(1, max(2, 2 * (rows - there) // (kills - done + 1))))
        if not kill_at(process, metrics, row, number):
            say(f"the training ended before kill {done + 1}")
            break
        done += 1
        checkpoints = sorted(path.name for path in (folder / "killed" / "checkpoints").glob("*"))
        say(f"kill {done}: after row {row} of {rows}; checkpoints: {', '.join(checkpoints) or 'none'}")
        if not (folder / "killed" / "checkpoints" / "last.ckpt").exists():
            # before the first checkpoint there is nothing to resume: the run starts again, as users are told to
            for path in sorted((folder / "killed").rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            process = start(folder, *settings, "run=killed")
        else:
            process = start(folder, "resume=killed")
    finish(process)
    found = differences(folder / "undisturbed", folder / "killed")
    if found:
        raise SystemExit("\n".join(["the resumed training differs from the undisturbed one:", *found[:20]]))
    say(f"{done} kills: {rows} rows of metrics and all weights are the same to the last digit")
    return done


def find_place(utterances: int) -> None:
    """Times finding the middle of the 50th epoch of a training on this many utterances."""
    import numpy

    from asr.data.batches import BatchStream, TrainingPlan
    from asr.data.plan import Bounds

    frames = numpy.random.default_rng(0).lognormal(6.5, 0.5, utterances).astype(int) + 50
    started = time.perf_counter()
    plan = TrainingPlan(frames, Bounds(30000), seed=1, epochs=100)
    counted = time.perf_counter()
    position = 50 * plan.per_epoch + plan.per_epoch // 2
    batch = next(iter(BatchStream(plan.epoch, plan.per_epoch, plan.epochs, position)))
    found = time.perf_counter()
    print(
        f"{utterances} utterances, {plan.per_epoch} batches an epoch: counted in {counted - started:.1f} s, "
        f"batch {position} ({len(batch)} utterances) found in {found - counted:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="how often to kill the training")
    parser.add_argument("--seed", type=int, default=1, help="of the steps to kill it at")
    parser.add_argument("--signal", default="KILL", choices=["KILL", "TERM", "INT"], help="the signal to kill it with")
    parser.add_argument("--find-place", type=int, metavar="N", help="only time finding the position among N utterances")
    parser.add_argument("settings", nargs="*", help="settings of train.py, such as data.workers=2 attention=clustered")
    arguments = parser.parse_args()
    if arguments.find_place:
        return find_place(arguments.find_place)
    with tempfile.TemporaryDirectory() as folder:
        soak(
            Path(folder), arguments.kills, arguments.seed, signal.Signals[f"SIG{arguments.signal}"], arguments.settings
        )


if __name__ == "__main__":
    from asr.cli.command import mistakes_as_sentences

    with mistakes_as_sentences(Path(sys.argv[0]).name):
        main()
