"""How fast, in how much memory and how well transcribe.py writes down one long recording, as a Markdown table.

    python scripts/benchmark_transcription.py RUN [--minutes 60] [--split test] [--cache .cache] [SETTING=VALUE ...]

The recording is made of the split's utterances, one speaker after the other, again and again until it is long enough; settings are those
of transcribe.py, such as decoder=wfst. Time and memory are those of the whole process, from its start to its end; memory is the
largest resident set of it. The words' times decide which utterance they are scored with (NIST's STM and CTM).
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
RECORDING = "recording"


def write_recording(folder: Path, arguments: argparse.Namespace) -> float:
    """Writes the recording and its STM; returns its seconds."""
    import numpy
    import soundfile

    from asr.checkpoint import open_checkpoint
    from asr.evaluation import Request, load_split

    checkpoint = open_checkpoint(arguments.run)
    request = Request(arguments.run, split=arguments.split, cache=arguments.cache)
    split, _, _ = load_split(checkpoint, request)
    rate = checkpoint.model.description["features"]["sample_rate"]
    utterances = [
        (cut.supervisions[0].speaker, " ".join(checkpoint.units.words(cut.supervisions[0])), cut.load_audio()[0])
        for cut in sorted(split.cuts, key=lambda cut: cut.supervisions[0].speaker)
    ]
    samples, lines = 0, []
    with soundfile.SoundFile(folder / f"{RECORDING}.flac", "w", rate, 1) as file:
        for speaker, words, audio in itertools.cycle(utterances):
            start, end = samples / rate, (samples + len(audio)) / rate
            lines.append(f"{RECORDING} 1 {speaker} {start:.3f} {end:.3f} <O> {words}\n")
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
    parser.add_argument("--cache", default=".cache")
    arguments = parser.parse_intermixed_args()

    from asr.errors import UserError
    from asr.scoring import summarize
    from asr.scoring.ctm import read_ctm
    from asr.scoring.rules import ScoringRules
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
            raise UserError(f"transcribe.py ended with exit code {process.returncode}; what it said stands above.")
        hypothesis = folder / f"{RECORDING}.ctm"
        rules = ScoringRules.read(folder / f"{RECORDING}.stm", None)
        score = summarize(rules.score_words(read_ctm(hypothesis), hypothesis).utterances)
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
    from asr.command import mistakes_as_sentences

    with mistakes_as_sentences(Path(__file__).name):
        sys.exit(main())
