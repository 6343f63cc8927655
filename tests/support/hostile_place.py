"""Where hostile inputs meet the programs: small good corpora and a model, the program itself, and what it left behind."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import gzip
import io
import json
import logging
import os
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import numpy
import soundfile

ROOT = Path(__file__).resolve().parents[2]
REFUSED, DROPPED, SKIPPED, STOPPED, USED = "refused", "dropped", "skipped", "stopped", "used"
SECONDS_TO_HANG = 60
# what a program may map beyond what is mapped before: far from filling the machine, which other tests share
MOST_ADDRESSES = 4 * 2**30
# every split has its own, in letters that training knows
TEXTS = {"train": "one two", "dev": "two one", "test": "ten two"}
TINY = [
    "units=characters", "encoder.layers=1", "encoder.heads=2", "encoder.head_dim=8", "encoder.feed_forward=16",
    "max_epochs=1", "trainer.validations=1", "data.workers=0", "data.max_dropped=0.5", "cache=cache", "run=run",
    "report=false",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a program ended.

    output, errors: what it said. dropped: what a run, or else the prepared corpus, lists as not used. left: the
    paths that are new in its folder.
    memory: the most that it held at once beyond what was held before, in bytes; None where that is not known.
    """

    program: str
    code: int
    output: str
    errors: str
    dropped: str
    left: list[str]
    memory: int | None


class Place:
    """A working folder of one case, with what it takes to make inputs in it."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.mounts: list[Path] = []
        (self.folder / "tmp").mkdir(exist_ok=True)

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    # corpora

    def audio(self, name: str, seconds: float = 0.5, sample_rate: int = 16000, channels: int = 1, **options) -> Path:
        """A tone in a file that is as it should be, another for every name."""
        time = numpy.arange(int(seconds * sample_rate)) / sample_rate
        tone = 0.3 * numpy.sin(2 * numpy.pi * (200 + sum(name.encode())) * time)
        path = self / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, numpy.stack([tone] * channels, 1), sample_rate, **options)
        return path

    def corpus(
        self, *rows: str | bytes, splits: tuple[str, ...] = ("train", "dev", "test"), good: int = 2
    ) -> list[str]:
        """A folder corpus of `good` utterances a split and further rows; returns what makes train.py take it."""
        lines = []
        for split in splits:
            for number in range(good):
                self.audio(f"corpus/{split}{number}.wav")
                lines.append(f"{split}{number}.wav\t{TEXTS[split]}\t{split}\t{split}".encode())
        lines += [row.encode() if isinstance(row, str) else row for row in rows]
        (self / "corpus").mkdir(exist_ok=True)
        (self / "corpus/transcripts.tsv").write_bytes(b"\n".join(lines) + b"\n")
        return ["train.py", *TINY, "corpus=folder", f"corpus.path={self / 'corpus'}"]

    def cut(self, name: str, path: Path | str | None = None, seconds: float = 0.5, **changes) -> dict:
        """A lhotse cut as its manifest holds it; `changes` replace fields. path: its audio, made here if not given."""
        path = self.audio(f"audio/{name}.wav", seconds) if path is None else path
        recording = {
            "id": name, "sources": [{"type": "file", "channels": [0], "source": str(path)}], "sampling_rate": 16000,
            "num_samples": int(seconds * 16000), "duration": seconds, "channel_ids": [0],
        }  # fmt: skip
        return {
            "id": name, "start": 0.0, "duration": seconds, "channel": 0, "recording": recording, "type": "MonoCut",
            "supervisions": [self.supervision(name, duration=seconds)], **changes,
        }  # fmt: skip

    def supervision(self, name: str, **changes) -> dict:
        return {
            "id": name, "recording_id": name, "start": 0.0, "duration": 0.5, "channel": 0, "text": "one two",
            "speaker": "ann", "language": "en", **changes,
        }  # fmt: skip

    def manifests(self, *cuts: dict, train: Path | str | None = None) -> list[str]:
        """Manifests with two good cuts a split and further ones in train; returns what makes train.py take them.

        train: another manifest of the training split.
        """
        for split in ("train", "dev", "test"):
            good = [self.cut(f"{split}{number}") for number in range(2)]
            for cut in good:
                cut["supervisions"][0] |= {"text": TEXTS[split], "speaker": split}
            lines = [json.dumps(cut) for cut in (*good, *(cuts if split == "train" else ()))]
            (self / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
        files = [f"corpus.{split}={self / split}.jsonl" for split in ("train", "dev", "test")]
        if train is not None:
            files[0] = f"corpus.train={train}"
        return ["train.py", *TINY, "corpus=cuts", *files]

    def manifest(self, name: str, content: bytes) -> list[str]:
        """`manifests`, with a training split of these bytes."""
        (self / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return self.manifests(train=self / name)

    # models

    def model(self) -> Path:
        """A model folder as it should be."""
        shutil.copytree(good_model(), self / "model")
        return self / "model"

    def transcribe(self, *files: str | Path, checkpoint: Path | None = None) -> list[str]:
        """transcribe.py with these files and a good one."""
        good = self.audio("good.wav")
        checkpoint = checkpoint or self.model()
        return ["transcribe.py", f"checkpoint={checkpoint}", "longest_seconds=600", *map(str, files), str(good)]

    def evaluate(self, *more: str) -> list[str]:
        """evaluate.py on a good corpus of cuts."""
        corpus = self.manifests()[-4:]
        settings = ["bootstrap=10", "report=false", "cache=cache"]
        return ["evaluate.py", f"checkpoint={self.model()}", *corpus, *settings, *more]

    # disks

    def disk(self, name: str, size: str, read_only: bool = False) -> Path:
        """A disk of its own, mounted at `name`. Raises PermissionError where that is not allowed."""
        path = self / name
        path.mkdir()
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"size={size},mode=0777".encode()
        if libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", 1 if read_only else 0, options) != 0:
            raise PermissionError(f"this user may not mount a disk ({os.strerror(ctypes.get_errno())})")
        self.mounts.append(path)
        return path

    def close(self) -> None:
        for path in self.mounts:
            ctypes.CDLL(None).umount2(os.fsencode(path), 2)

    # programs

    def files(self) -> set[str]:
        """Everything that lies in the folder, by path."""
        return {
            os.path.relpath(os.path.join(folder, name), self.folder)
            for folder, folders, files in os.walk(self.folder)
            for name in (*folders, *files)
            if not name.startswith("torchinductor")  # torch makes it when it is first imported
        }

    def run(self, arguments: list[str], process: bool = False) -> Outcome:
        """Runs a program as typed in this folder: in this process, which is fast, or in one of its own."""
        before = self.files()
        if process:
            code, output, errors, memory = *self._run_process(arguments), None
        else:
            with peak_memory() as measured:
                code, output, errors = self._run_here(arguments)
            memory = measured.bytes
        listed = [self / "run/dropped.tsv", *self.folder.glob("cache/*/*/dropped.tsv")]
        dropped = next((file.read_text(encoding="utf8") for file in listed if file.is_file()), "")
        return Outcome(arguments[0], code, output, errors, dropped, sorted(self.files() - before), memory)

    def _run_process(self, arguments: list[str]) -> tuple[int, str, str]:
        stdout = open("/dev/full", "w") if "> /dev/full" in arguments else subprocess.PIPE
        typed = [argument for argument in arguments if argument != "> /dev/full"]
        ended = subprocess.run(
            [sys.executable, str(ROOT / typed[0]), *typed[1:]],
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, text=True,
            timeout=SECONDS_TO_HANG, env={**os.environ, "TMPDIR": str(self / "tmp")},
        )  # fmt: skip
        return ended.returncode, ended.stdout or "", ended.stderr

    def _run_here(self, arguments: list[str]) -> tuple[int, str, str]:
        output, errors, code = io.StringIO(), io.StringIO(), 0
        with contextlib.ExitStack() as stack:
            stack.enter_context(as_typed(self.folder, arguments))
            stack.enter_context(contextlib.redirect_stdout(output))
            stack.enter_context(contextlib.redirect_stderr(errors))
            try:
                runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            except BaseException:
                # as Python itself ends a program
                traceback.print_exc(file=errors)
                code = 1
        return code, output.getvalue(), errors.getvalue()


@contextlib.contextmanager
def as_typed(folder: Path, arguments: list[str]):
    """The state of a process that was started in `folder` with these arguments; puts the old one back."""
    old = os.getcwd(), sys.argv, tempfile.tempdir, signal.getsignal(signal.SIGALRM)
    root = logging.getLogger()
    logs = root.level, list(root.handlers)
    # a fresh process has none: what another test left may write to a stream that is closed
    root.handlers = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def hanging(*_):
        raise TimeoutError(f"still running after {SECONDS_TO_HANG} s")

    os.chdir(folder)
    sys.argv = [str(ROOT / arguments[0]), *arguments[1:]]
    tempfile.tempdir = str(folder / "tmp")
    signal.signal(signal.SIGALRM, hanging)
    signal.alarm(SECONDS_TO_HANG)
    limit = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MOST_ADDRESSES, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
        signal.alarm(0)
        os.chdir(old[0])
        sys.argv, tempfile.tempdir = old[1], old[2]
        signal.signal(signal.SIGALRM, old[3])
        for number, handler in handlers.items():
            signal.signal(number, handler)
        root.setLevel(logs[0])
        root.handlers[:] = logs[1]


def peak_memory():
    import gc

    import torch

    from asr.runtime.memory import PeakMemory

    gc.freeze()  # what was imported before is not searched for garbage whenever memory is measured
    return PeakMemory(torch.device("cpu"))


@functools.cache
def good_model() -> Path:
    """A tiny model for sixteen thousand samples a second that writes characters."""
    import atexit

    import torch

    from asr.config.settings import compose
    from asr.model.folder import save_model
    from asr.model.network import Model
    from asr.text.units import BLANK
    from asr.text.units.characters import SPACE, Characters
    from asr.training.setup import describe

    folder = Path(tempfile.mkdtemp(prefix="asr-hostile-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    description = describe(compose("train", [setting for setting in TINY if setting.startswith("encoder.")]))
    built = Characters([BLANK, SPACE, *"enotw"])
    description["features"]["sample_rate"], description["units"] = 16000, len(built.symbols)
    torch.manual_seed(0)
    save_model(folder / "model", Model(description).eval(), built, {"corpus": {"name": "cuts"}})
    return folder / "model"


def good_checkpoint(path: Path, **more) -> Path:
    """The same model as a .ckpt file. more: further fields of it, or others in place of its own."""
    import torch

    from asr.model.checkpoint import CARRIED, pack_units
    from asr.model.folder import FORMAT, load_model

    model, units, trained_on = load_model(good_model())
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    description = {"format": FORMAT, **model.description, "trained_on": trained_on}
    torch.save({"state_dict": state, CARRIED: {"description": description, "units": pack_units(units)}, **more}, path)
    return path
