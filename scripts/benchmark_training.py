"""Benchmarks training on a real corpus against SpeechBrain's CTC Transformer of the same size on the same data.

    python scripts/benchmark_training.py --output results/training                       # with SpeechBrain, if it is installed
    python scripts/benchmark_training.py --speechbrain OTHER/bin/python corpus=asterisk  # with SpeechBrain of another environment

All speeds are in seconds of speech per second: filter banks alone (waveforms in memory; also kaldi-native-fbank and torchaudio,
if installed), reading and decoding audio alone, forward, forward + backward, a whole optimizer step (these on the same few
batches in memory), and the whole training loop with data loader, logs and a checkpoint: train.py for us, Brain.fit for
SpeechBrain. Each contestant is a process; they take turns, after a warm-up round in which their memory is measured. Medians
count; ratios are medians of each round's ratio, as all run under the same conditions within a round.

SpeechBrain runs in three ways: `same`, our layers, sizes and batches built from its own parts; `rope`, the same with the
attention of its newest recipes; `recipe`, the convolutional front end and the dynamic batches of its recipe
LibriSpeech/ASR/transformer. The fastest of them is the one to compare with. KEY=VALUE are settings of train.py.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import importlib.util
import json
import os
import shlex
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]

from contestant import Contestant  # noqa: E402

from asr.cli.command import mistakes_as_sentences  # noqa: E402
from asr.config.checks import check_overrides  # noqa: E402
from asr.config.overrides import as_hydra_takes  # noqa: E402
from asr.errors import UserError  # noqa: E402

HERE = Path(__file__).resolve().parent
STAGES = ("filter bank", "data loading", "forward", "forward + backward", "step", "loop")
TITLES = {"loop": "whole loop"}
OURS, WAYS = "asr", ("same", "rope", "recipe")
COLUMNS = [
    "contestant", "stage", "audio_seconds_per_second", "least", "most", "asr_ratio", "least_ratio", "most_ratio", "rounds",
    "waiting", "peak_memory_bytes", "parameters",
]  # fmt: skip


@dataclasses.dataclass
class Results:
    """The measurements.

    speeds: seconds of speech per second by (contestant, stage), one per round. waiting: shares of the loop's time spent waiting
    for data, by contestant. memory: bytes. parameters: their number. notes: remarks on the numbers.
    """

    speeds: dict[tuple[str, str], list[float]] = dataclasses.field(default_factory=dict)
    waiting: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    memory: dict[str, int | None] = dataclasses.field(default_factory=dict)
    parameters: dict[str, int] = dataclasses.field(default_factory=dict)
    heading: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def contestants(self) -> list[str]:
        return list(dict.fromkeys(name for name, _ in self.speeds))

    def add(self, contestant: str, stage: str, answer: dict[str, Any]) -> None:
        """Adds a contestant's answer, whose seconds may be a dictionary of several by name."""
        seconds = answer["seconds"] if isinstance(answer["seconds"], dict) else {contestant: answer["seconds"]}
        for name, taken in seconds.items():
            self.speeds.setdefault((name, stage), []).append(answer["audio"] / taken)
        if "waiting" in answer:
            self.waiting.setdefault(contestant, []).append(answer["waiting"])

    def ratios(self, contestant: str, stage: str) -> list[float]:
        """How many times as fast as the contestant ours was, per round."""
        ours, other = self.speeds.get((OURS, stage), []), self.speeds.get((contestant, stage), [])
        return [mine / its for mine, its in zip(ours, other)]

    def rows(self) -> list[dict[str, Any]]:
        """One row per contestant and stage."""
        found = []
        for (contestant, stage), speeds in self.speeds.items():
            ratios = self.ratios(contestant, stage)
            row = dict.fromkeys(COLUMNS, "") | {"contestant": contestant, "stage": stage, "rounds": len(speeds)}
            row |= spread(speeds, "audio_seconds_per_second", "least", "most")
            row |= spread(ratios, "asr_ratio", "least_ratio", "most_ratio")
            if stage == "loop":
                row["waiting"] = f"{statistics.median(self.waiting[contestant]):.4f}"
                row["peak_memory_bytes"] = self.memory.get(contestant) or ""
                row["parameters"] = self.parameters[contestant]
            found.append(row)
        return found

    def markdown(self) -> str:
        stages = [stage for stage in STAGES if any(stage == measured for _, measured in self.speeds)]
        titles = [TITLES.get(stage, stage) for stage in stages]
        lines = [*self.heading, "", "**Seconds of speech per second** (least–most)", ""]
        lines += [
            f"| | {' | '.join(titles)} | waiting for data | peak memory | parameters |",
            "|---" * (len(stages) + 4) + "|",
        ]
        for name in self.contestants:
            cells = [describe(self.speeds.get((name, stage), []), ",.0f") for stage in stages]
            waiting, memory = self.waiting.get(name), self.memory.get(name)
            cells.append(f"{statistics.median(waiting):.1%}" if waiting else "–")
            cells.append(f"{memory / 2**20:,.0f} MiB" if memory else "–")
            cells.append(f"{self.parameters[name]:,}" if name in self.parameters else "–")
            lines.append(f"| {name} | {' | '.join(cells)} |")
        others = [name for name in self.contestants if name != OURS]
        if others:
            lines += ["", "**How many times as fast asr is** (least–most of the rounds)", ""]
            lines += [f"| beside | {' | '.join(titles)} |", "|---" * (len(stages) + 1) + "|"]
            for name in others:
                cells = [describe(self.ratios(name, stage), ".2f") for stage in stages]
                lines.append(f"| {name} | {' | '.join(cells)} |")
        if self.notes:
            lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path) -> None:
        """Writes benchmark_training.csv and .md, each replaced at once. Raises UserError if it cannot."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            aside = folder / ".benchmark_training.partial"
            with open(aside, "w", newline="", encoding="utf8") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(self.rows())
            os.replace(aside, folder / "benchmark_training.csv")
            aside.write_text(self.markdown(), encoding="utf8")
            os.replace(aside, folder / "benchmark_training.md")
        except OSError as error:
            raise UserError(f"--output {folder} cannot be written: {error.strerror}. Choose another folder.") from None


def spread(values: Sequence[float], median: str, least: str, most: str) -> dict[str, str]:
    if not values:
        return {}
    found = {median: statistics.median(values), least: min(values), most: max(values)}
    return {name: f"{value:.5g}" for name, value in found.items()}


def describe(values: Sequence[float], form: str) -> str:
    """`123 (120–130)`, or a dash for no values."""
    if not values:
        return "–"
    return f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def measure(contestants: Sequence, stages: Sequence[str], rounds: int, minutes: float, results: Results) -> None:
    """Asks all contestants in turns. contestants: with `name`, `ask` and `ask_for_memory`, like `Contestant`; ours first.

    Rounds stop early when `minutes` are over, but at least one is run.
    """
    start = time.monotonic()
    for one in contestants:
        for stage in stages:
            if stage != "loop":
                one.ask(stage)
            else:
                _, results.memory[one.name] = one.ask_for_memory(stage)
    warmed = time.monotonic() - start
    print(f"warmed up in {warmed:.0f} s", file=sys.stderr)
    for number in range(rounds):
        if number and time.monotonic() - start + (time.monotonic() - start - warmed) / number > minutes * 60:
            results.notes.append(
                f"Only {number} of {rounds} rounds were run, as more would have exceeded --minutes {minutes:g}."
            )
            break
        for stage in stages:
            for one in contestants:
                results.add(one.name, stage, one.ask(stage))
        print(f"round {number + 1} of {rounds}: {time.monotonic() - start:.0f} s", file=sys.stderr)


def run(arguments: argparse.Namespace, folder: Path) -> Results:
    """Starts the contestants, measures them, and ends them. folder: for their files."""
    results, started = Results(), []
    try:
        settings = {
            "overrides": arguments.settings, "folder": str(folder), "batches": arguments.batches,
            "stage_batches": arguments.stage_batches, "warm_up": arguments.warm_up, "threads": arguments.threads,
        }  # fmt: skip
        command = [sys.executable, str(HERE / "training_in_asr.py"), json.dumps(settings)]
        ours = Contestant(OURS, command, folder / "asr.log", arguments.threads)
        started.append(ours)
        about = ours.ask("describe")
        results.parameters[OURS] = about["parameters"]
        machines = [about["machine"]]
        for way in arguments.ways if arguments.speechbrain else ():
            settings = {"job": about["job"], "way": way, "folder": str(folder)}
            command = [arguments.speechbrain, str(HERE / "training_in_speechbrain.py"), json.dumps(settings)]
            one = Contestant(f"speechbrain, {way}", command, folder / f"speechbrain-{way}.log", arguments.threads)
            started.append(one)
            found = one.ask("describe")
            results.parameters[one.name] = found["parameters"]
            machines.append(found["machine"])
        results.heading = [
            f"`{shlex.join(['python', *sys.argv])}`",
            "",
            f"{'; '.join(dict.fromkeys(machines))}; revision `{about['revision']}`. {about['data']}; the loop's clock starts "
            f"after {arguments.warm_up} of them.",
        ]
        if not arguments.speechbrain:
            results.notes.append("SpeechBrain is not installed here: --speechbrain PYTHON names a Python that has it.")
        measure(started, arguments.stages, arguments.rounds, arguments.minutes, results)
    finally:
        for one in started:
            one.close()
    return results


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "settings", nargs="*", metavar="KEY=VALUE", help="settings of train.py, such as corpus=asterisk"
    )
    parser.add_argument(
        "--speechbrain", metavar="PYTHON", help="a Python with SpeechBrain; default: this one, if it has it"
    )
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=list(WAYS), help="of running SpeechBrain; default: all"
    )
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="to time; default: all")
    parser.add_argument("--batches", type=int, default=40, help="in the training loop (40)")
    parser.add_argument("--warm-up", type=int, default=10, help="batches of the loop before its clock starts (10)")
    parser.add_argument("--stage-batches", type=int, default=6, help="batches to time the single stages on (6)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds after the warm-up (5)")
    parser.add_argument("--minutes", type=float, default=5.0, help="time limit for all rounds (5)")
    parser.add_argument("--threads", type=int, default=2, help="per contestant (2)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="also write benchmark_training.csv and .md there")
    # options with several values would swallow the settings after them
    typed = list(sys.argv[1:] if argv is None else argv)
    settings = [one for one in typed if "=" in one and not one.startswith("-")]
    arguments = parser.parse_args([one for one in typed if one not in settings])
    arguments.settings += settings
    for option in ("batches", "warm_up", "stage_batches", "rounds", "threads"):
        if getattr(arguments, option) < 1:
            raise UserError(
                f"--{option.replace('_', '-')} takes whole numbers of 1 or more, not {getattr(arguments, option)}."
            )
    # the clock runs between two logged steps
    if arguments.batches < 2 * arguments.warm_up:
        raise UserError(
            f"--batches {arguments.batches} must be at least twice --warm-up {arguments.warm_up}: raise one or lower the other."
        )
    arguments.settings = as_hydra_takes("train", arguments.settings)
    check_overrides("train", arguments.settings)
    if arguments.speechbrain is None and importlib.util.find_spec("speechbrain"):
        arguments.speechbrain = sys.executable
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    with tempfile.TemporaryDirectory(prefix="benchmark_training_") as folder:
        results = run(arguments, Path(folder))
    print(results.markdown(), end="")
    if arguments.output:
        results.write(arguments.output)


if __name__ == "__main__":
    # so that the contestants end too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with mistakes_as_sentences("benchmark_training.py"):
        main()
