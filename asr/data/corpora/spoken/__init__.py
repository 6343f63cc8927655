"""The built-in corpus: English synthesized on the spot by eSpeak NG, with the true times of its phonemes.

Sentences come from `asr.data.corpora.spoken.sentences`, voices from `asr.data.corpora.spoken.voices`. It is made once, below
the cache folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from asr.data.corpora import Corpus, CorpusSource
from asr.data.corpora.spoken.plan import SHAPES, Shape, Utterance, plan_utterances
from asr.errors import UserError, nearest

# Part of the cache folder's name: raised whenever the same settings give different bytes.
_FORMAT = 1
_SPLITS = ("train", "dev", "test")


@dataclasses.dataclass
class SpokenCorpus(CorpusSource):
    """hours: of training speech. shape: `short`, `wsj` or `switchboard` (`asr.data.corpora.spoken.plan.SHAPES`: durations,
    sample rate, band). seed: decides the sentences and voices. dev_minutes, test_minutes: None for 8 and 16, or a quarter and
    a half of the training speech if that is less. Raises UserError for an impossible setting.
    """

    name = "spoken"
    synthetic = True

    hours: float = 4.0
    shape: str = "wsj"
    seed: int = 1
    dev_minutes: float | None = None
    test_minutes: float | None = None

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise UserError(f"corpus.shape={self.shape!r} is not a shape of utterances: {nearest(self.shape, SHAPES)}.")
        for field in ("hours", "dev_minutes", "test_minutes"):
            value = getattr(self, field)
            if value is None and field != "hours":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 10000:
                raise UserError(f"corpus.{field}={value!r} must be a number above 0 (and at most 10000).")
            setattr(self, field, float(value))
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise UserError(f"corpus.seed={self.seed!r} must be a whole number.")

    def load(self, cache: Path, workers: int = 2) -> Corpus:
        """The corpus, made first if it is not in `cache` yet.

        Raises UserError if eSpeak NG is missing or `cache` is not writable; leaves nothing half-made behind.
        """
        folder = self.folder(Path(cache))
        if not folder.exists():
            self._make(folder, workers)
        return Corpus(self.name, {split: _read(folder, split) for split in _SPLITS}, SHAPES[self.shape].sample_rate)

    def folder(self, cache: Path) -> Path:
        """The folder below `cache` for the corpus with these settings."""
        # By the result: default minutes and the same minutes given explicitly make the same corpus.
        settings = json.dumps([_FORMAT, self.shape, self.hours, self.seed, sorted(self.counts().items())])
        code = hashlib.sha256(settings.encode()).hexdigest()[:8]
        return cache.expanduser().absolute() / "spoken" / f"{self.shape}-{self.hours:g}h-seed{self.seed}-{code}"

    def counts(self) -> dict[str, int]:
        """The number of utterances by split; splits that must avoid train's sentences come first."""
        minutes = {
            "test": self.test_minutes or min(16, self.hours * 30),
            "dev": self.dev_minutes or min(8, self.hours * 15),
            "train": self.hours * 60,
        }
        average = SHAPES[self.shape].average
        return {split: max(2, round(60 * amount / average)) for split, amount in minutes.items()}

    def _make(self, folder: Path, workers: int) -> None:
        from asr.text import espeak

        espeak.voices()  # fails now if eSpeak NG is not installed
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        except OSError as error:
            raise UserError(
                f"The corpus cannot be written to the cache folder {folder.parent.parent}: {error.strerror}. "
                "Choose another with cache=FOLDER."
            ) from None
        try:
            shape = SHAPES[self.shape]
            utterances = plan_utterances(shape, self.counts(), self.seed)
            for split in _SPLITS:
                (unfinished / split).mkdir()
            content = {"shape": dataclasses.asdict(shape), "utterances": [dataclasses.asdict(u) for u in utterances]}
            (unfinished / "plan.json").write_text(json.dumps(content), encoding="utf8")
            results = _speak(unfinished, len(utterances) * shape.average, shape.sample_rate, workers)
            for split in _SPLITS:
                _write(unfinished, split, [u for u in utterances if u.split == split], results, shape)
            (unfinished / "plan.json").unlink()
            os.chmod(unfinished, 0o755)  # mkdtemp's are private
            try:
                unfinished.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
                # Another process has made the same corpus meanwhile.
        except OSError as error:
            raise UserError(
                f"The corpus could not be written to {unfinished}: {error.strerror}. Choose another cache=FOLDER."
            ) from None
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _speak(folder: Path, expected_seconds: float, sample_rate: int, workers: int) -> dict[str, dict]:
    """Runs the speaking processes on `folder/plan.json` with a progress bar; returns their results by utterance."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    workers = max(1, workers)
    packages = str(Path(__file__).parents[4])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (packages, os.environ.get("PYTHONPATH")))),
        # One thread each: there is a process per worker already, and forking is quicker.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "asr.data.corpora.spoken.speaker", str(folder)]
    results: dict[str, dict] = {}
    processes: list[subprocess.Popen] = []
    amount = TextColumn("{task.completed:.0f} of about {task.total:.0f} s of audio")
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())

    def follow(process: subprocess.Popen) -> None:
        for line in process.stdout or ():
            result = json.loads(line)
            if sentence := result.get("error"):
                raise UserError(f"The corpus could not be made: {sentence}")
            results[result["id"]] = result
            progress.advance(task, result["samples"] / sample_rate)
        if process.wait() != 0:
            if process.returncode == -signal.SIGINT:
                # a terminal's Ctrl-C reaches both processes and may show here first
                raise KeyboardInterrupt
            raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")

    try:
        with Progress(*columns, console=Console(stderr=True)) as progress, ThreadPoolExecutor(workers) as threads:
            task = progress.add_task("Speaking the corpus", total=expected_seconds)
            try:
                for first in range(workers):
                    arguments = [*command, str(first), str(workers)]
                    processes.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment, text=True))
                followers = [threads.submit(follow, process) for process in processes]
                for follower in wait(followers, return_when=FIRST_EXCEPTION).done:
                    follower.result()
            finally:
                # Before waiting for the threads, which end when their processes do.
                for process in processes:
                    process.kill()
    finally:
        for process in processes:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
    return results


def _write(folder: Path, split: str, utterances: list[Utterance], results: dict[str, dict], shape: Shape) -> None:
    """Writes `<split>.jsonl.gz`: lhotse cuts whose recordings are named relative to `folder`."""
    from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
    from lhotse.audio import AudioSource
    from lhotse.supervision import AlignmentItem

    from asr.data.corpora.spoken.sentences import words

    cuts = []
    for utterance in utterances:
        result = results[utterance.id]
        duration = result["samples"] / shape.sample_rate
        source = AudioSource(type="file", channels=[0], source=f"{split}/{utterance.id}.flac")
        recording = Recording(utterance.id, [source], shape.sample_rate, result["samples"], duration)
        supervision = SupervisionSegment(
            id=utterance.id,
            recording_id=utterance.id,
            start=0.0,
            duration=duration,
            text=words(utterance.text),
            language="en",
            speaker=utterance.voice,
            alignment={
                "phoneme": [AlignmentItem(*item) for item in result["phonemes"]],
                "word": [AlignmentItem(word.lower(), *times) for word, *times in result["words"]],
            },
        )
        cuts.append(MonoCut(utterance.id, 0.0, duration, 0, [supervision], recording=recording))
    CutSet.from_cuts(cuts).to_file(folder / f"{split}.jsonl.gz")


def _read(folder: Path, split: str):
    from lhotse import CutSet

    file = folder / f"{split}.jsonl.gz"
    try:
        cuts = CutSet.from_file(file).to_eager()
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): delete the folder {folder} to have it made again.") from None
    return cuts.with_recording_path_prefix(folder)
