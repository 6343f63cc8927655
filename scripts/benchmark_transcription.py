"""Benchmarks speed, memory and accuracy of transcribe.py on one long recording: a Markdown table.

    python scripts/benchmark_transcription.py RUN [--minutes 60] [--split test] [--cache .cache] [SETTING=VALUE ...]

The recording repeats the split's utterances until it is long enough: sorted by speaker, or shuffled, so that the speaker changes
with nearly every utterance; --pause adds a quiet pause after each, --noise white noise over everything. Settings are those of
transcribe.py, such as decoder=wfst. Time and memory are those of the whole process, from start to end; memory is its largest
resident set. Words are scored with the utterance that their times fall into (NIST's STM and CTM).
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
RECORDING = "recording"
PAUSE_DEVIATION = 10 ** (-70 / 20)  # of the white noise in pauses, relative to full scale: a quiet room


def write_recording(folder: Path, arguments: argparse.Namespace) -> float:
    """Writes the recording and its STM; returns its seconds."""
    import numpy
    import soundfile

    from asr.audio.cuts import load_audio
    from asr.evaluation.request import Request, load_split
    from asr.model.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(arguments.run)
    request = Request(arguments.run, split=arguments.split, cache=arguments.cache)
    split, _, _ = load_split(checkpoint, request)
    rate = checkpoint.model.description["features"]["sample_rate"]
    utterances = [
        (cut.supervisions[0].speaker, " ".join(checkpoint.units.words(cut.supervisions[0])), load_audio(cut)[0])
        for cut in sorted(split.cuts, key=lambda cut: cut.supervisions[0].speaker)
    ]
    generator = numpy.random.default_rng(arguments.seed)
    if arguments.order == "shuffled":
        utterances = [utterances[number] for number in generator.permutation(len(utterances))]
    power = numpy.mean([numpy.square(audio).mean() for _, _, audio in utterances])
    deviation = 0.0 if arguments.noise is None else math.sqrt(power * 10 ** (-arguments.noise / 10))
    pause = round(arguments.pause * rate)
    samples, lines = 0, []
    with soundfile.SoundFile(folder / f"{RECORDING}.flac", "w", rate, 1) as file:
        for speaker, words, audio in itertools.cycle(utterances):
            start, end = samples / rate, (samples + len(audio)) / rate
            lines.append(f"{RECORDING} 1 {speaker} {start:.3f} {end:.3f} <O> {words}\n")
            audio = numpy.concatenate([audio, generator.normal(0, PAUSE_DEVIATION, pause)])
            audio += generator.normal(0, deviation, len(audio))
            file.write(numpy.clip(audio, -1.0, 1.0))
            samples += len(audio)
            if samples >= 60 * arguments.minutes * rate:
                break
    (folder / f"{RECORDING}.stm").write_text("".join(lines), encoding="utf8")
    return samples / rate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run's folder, a .ckpt file or a model folder")
    parser.add_argument("settings", nargs="*", help="of transcribe.py")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--split", default="test")
    parser.add_argument("--order", choices=("speaker", "shuffled"), default="speaker", help="of the utterances")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of quiet after every utterance")
    parser.add_argument("--noise", type=float, help="signal-to-noise ratio in dB of white noise over the recording")
    parser.add_argument("--seed", type=int, default=1, help="of the order and the noise")
    parser.add_argument("--cache", default=".cache")
    arguments = parser.parse_intermixed_args()

    from asr.errors import UserError
    from asr.scoring import summarize
    from asr.scoring.nist.ctm import read_ctm
    from asr.scoring.nist.rules import ScoringRules
    from asr.scoring.text import percent

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds = write_recording(folder, arguments)
        command = [sys.executable, str(REPOSITORY / "transcribe.py"), f"checkpoint={arguments.run}", "format=ctm"]
        command += [f"output={folder}", *arguments.settings, str(folder / f"{RECORDING}.flac")]
        started = time.perf_counter()
        process = subprocess.Popen(command)
        _, status, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise UserError(f"transcribe.py failed with exit code {process.returncode}: see its message above.")
        hypothesis = folder / f"{RECORDING}.ctm"
        rules = ScoringRules.read(folder / f"{RECORDING}.stm", None)
        score = summarize(rules.score_words(read_ctm(hypothesis), str(hypothesis)).utterances)
    # Linux counts kibibytes, macOS bytes
    memory = used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    print(
        "| recording | seconds | times real time | processor seconds | peak memory | WER |\n|---|---|---|---|---|---|"
    )
    print(
        f"| {seconds / 60:.1f} minutes | {took:.1f} | {seconds / took:.0f} | {used.ru_utime + used.ru_stime:.1f} "
        f"| {memory:.0f} MiB | {percent(score.error_rate)} of {score.reference_length} words |"
    )
    return 0


if __name__ == "__main__":
    from asr.cli.command import mistakes_as_sentences

    with mistakes_as_sentences(Path(__file__).name):
        sys.exit(main())
