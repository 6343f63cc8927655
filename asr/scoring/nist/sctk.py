"""Runs NIST's own scoring programs (SCTK, https://github.com/usnistgov/SCTK) if they are installed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from asr.errors import UserError

FOLDERS = ("/usr/lib/sctk/bin", "/usr/local/lib/sctk/bin", "/opt/sctk/bin")  # Debian has only a wrapper on the PATH
SECONDS = 600.0  # longest run of one program
IDENTITY = re.compile(r"id: \((.*)\)")
SCORES = re.compile(r"Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)")


@dataclasses.dataclass(frozen=True)
class Counts:
    """Hits, substitutions and deletions of reference words, and insertions."""

    hits: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def words(self) -> int:
        return self.hits + self.substitutions + self.deletions

    def as_data(self) -> dict[str, int | float | None]:
        errors = self.substitutions + self.deletions + self.insertions
        return {
            "reference_length": self.words,
            **dataclasses.asdict(self),
            "error_rate": errors / self.words if self.words else None,
        }


@dataclasses.dataclass(frozen=True)
class Sctk:
    """The paths of SCTK's programs. version: sclite's, such as "2.10". hubscr: None if it or csrfilt.sh is missing."""

    folder: Path
    sclite: Path
    hubscr: Path | None
    version: str


@functools.lru_cache(maxsize=1)
def find_sctk() -> Sctk | None:
    """SCTK on the PATH or where Debian puts it; None if it is not installed or does not start."""
    on_path = shutil.which("sclite")
    first = [Path(on_path).resolve().parent] if on_path else []
    for folder in [*first, *map(Path, FOLDERS)]:
        sclite = folder / "sclite"
        if not os.access(sclite, os.X_OK):
            continue
        try:
            # without arguments it prints its usage and version
            usage = subprocess.run([str(sclite)], capture_output=True, text=True, errors="replace", timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            continue
        version = re.search(r"sclite Version: ([\w.]+)", usage.stdout + usage.stderr)
        parts = [folder / name for name in ("hubscr.pl", "csrfilt.sh", "rfilter1")]
        complete = all(os.access(part, os.X_OK) for part in parts) and shutil.which("perl")
        return Sctk(folder, sclite, parts[0] if complete else None, version[1] if version else "of an unknown version")
    return None


def run_sclite(
    reference: Path | str,
    hypothesis: Path | str,
    markup: bool = True,
    case_sensitive: bool = False,
    glm: Path | str | None = None,
    sctk: Sctk | None = None,
    seconds: float = SECONDS,
) -> dict[str, Counts]:
    """sclite's counts by utterance (lower case, without parentheses) of two trn files.

    markup: use -F -D, for fragments and optional words. glm: run csrfilt.sh -dh on both first. Raises UserError, with the
    program's output, if it fails or takes longer than `seconds`.
    """
    sctk = needed(sctk)
    with temporary_copies({"ref.trn": reference, "hyp.trn": hypothesis, "rules.glm": glm}) as folder:
        if glm is not None:
            for name, purpose in (("ref.trn", "ref"), ("hyp.trn", "hyp")):
                filtered = filter_file(sctk, folder, name, "trn", purpose, seconds)
                (folder / name).write_bytes(filtered)
        command = [str(sctk.sclite), "-r", "ref.trn", "trn", "-h", "hyp.trn", "trn", "-i", "spu_id"]
        command += ["-F", "-D"] * markup + ["-s"] * case_sensitive + ["-o", "pralign", "-f", "0"]
        run_program(command, folder, sctk, seconds)
        return read_alignments(folder / "hyp.trn.pra")


def run_hubscr(
    stm: Path | str,
    ctm: Path | str,
    glm: Path | str | None = None,
    sctk: Sctk | None = None,
    seconds: float = SECONDS,
) -> dict[str, Counts]:
    """Counts by sclite's own name of each segment, `speaker-number` in lower case (see `segment_names`).

    Runs `hubscr.pl -l english -h hub5` with a GLM, and sclite -F -D without one. Both files must be sorted by file, channel
    and time (hubscr.pl sorts them itself). Raises UserError, with the program's output, if it fails or takes too long.
    """
    sctk = needed(sctk)
    with temporary_copies({"ref.stm": stm, "hyp.ctm": ctm, "rules.glm": glm}) as folder:
        if glm is None:
            command = [str(sctk.sclite), "-r", "ref.stm", "stm", "-h", "hyp.ctm", "ctm", "-F", "-D"]
            run_program([*command, "-o", "pralign", "-f", "0"], folder, sctk, seconds)
            return read_alignments(folder / "hyp.ctm.pra")
        if sctk.hubscr is None:
            raise UserError(f"hubscr.pl, csrfilt.sh, rfilter1 or perl is missing beside {sctk.sclite}: install it.")
        # -V: do not check the vocabulary of English words, which does not affect the counts
        command = [str(sctk.hubscr), "-V", "-g", "rules.glm", "-l", "english", "-h", "hub5", "-r", "ref.stm", "hyp.ctm"]
        run_program(command, folder, sctk, seconds)
        return read_alignments(folder / "hyp.ctm.filt.pra")


def segment_names(segments: Sequence) -> dict[str, str]:
    """sclite's names of scored segments by identity: the speaker in lower case and a number that counts from 000."""
    counted: dict[str, int] = {}
    names = {}
    for segment in segments:
        speaker = segment.speaker.lower()
        names[segment.identity] = f"{speaker}-{counted.get(speaker, 0):03d}"
        counted[speaker] = counted.get(speaker, 0) + 1
    return names


def needed(sctk: Sctk | None) -> Sctk:
    sctk = sctk or find_sctk()
    if sctk is None:
        raise UserError("NIST SCTK is not installed. Install it: apt install sctk on Debian and Ubuntu.")
    return sctk


@contextlib.contextmanager
def temporary_copies(files: Mapping[str, Path | str | None]):
    """A folder with copies under plain names: hubscr.pl passes names to a shell, so they must not contain spaces."""
    with tempfile.TemporaryDirectory(prefix="asr-sctk-") as name:
        for target, source in files.items():
            if source is not None:
                try:
                    shutil.copyfile(source, Path(name, target))
                except OSError as error:
                    raise UserError(f"{source} cannot be read: {error.strerror or error}. Name another file.") from None
        yield Path(name)


def filter_file(sctk: Sctk, folder: Path, name: str, kind: str, purpose: str, seconds: float) -> bytes:
    command = [str(sctk.folder / "csrfilt.sh"), "-i", kind, "-t", purpose, "-dh", "rules.glm"]
    output = run_program(command, folder, sctk, seconds, (folder / name).read_bytes())
    if not output.strip():
        raise UserError(f"csrfilt.sh printed nothing for {name}: check the file and the GLM.")
    return output


def run_program(
    command: Sequence[str], folder: Path, sctk: Sctk, seconds: float = SECONDS, standard_input: bytes = b""
) -> bytes:
    """Runs one of SCTK's programs in `folder` and returns its standard output; kills everything it started on a timeout."""
    environment = os.environ | {"PATH": f"{sctk.folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}", "LC_ALL": "C"}
    name = Path(command[0]).name
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
    except OSError as error:
        raise UserError(f"{command[0]} cannot be run: {error.strerror or error}. Install SCTK again.") from None
    try:
        output, errors = process.communicate(standard_input, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{name} took longer than {seconds:g} s and was stopped. Check its files, or score fewer utterances at once."
        ) from None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        said = (errors.decode("utf8", "replace").strip() or output.decode("utf8", "replace").strip())[-600:]
        how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
        raise UserError(f"{name} failed ({how}): {said or 'it printed nothing'}\nCheck the files it was given.")
    return output


def read_alignments(path: Path) -> dict[str, Counts]:
    """The counts of each utterance in sclite's `pra` report, whole numbers per utterance unlike those in its tables."""
    try:
        lines = path.read_bytes().decode("utf8", "replace").split("\n")
    except OSError as error:
        raise UserError(
            f"sclite left no alignments ({path.name}): {error.strerror or error}. Install SCTK again."
        ) from None
    counts: dict[str, Counts] = {}
    identity = None
    for line in lines:
        if found := IDENTITY.fullmatch(line):
            identity = found[1]
        elif identity is not None and (found := SCORES.fullmatch(line)):
            counts[identity] = Counts(*(int(number) for number in found.groups()))
            identity = None
    if not counts:
        raise UserError(f"sclite left no alignments in {path.name}: check the reference and the hypothesis.")
    return counts
