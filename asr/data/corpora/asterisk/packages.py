"""Debian's packages of Asterisk prompts: fetching them, finding them in a folder, unpacking them."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from asr.errors import UserError
from asr.runtime.text_files import read_lines


class Prompts:
    """The prompts of one language in an unpacked tree: transcripts, and one folder of G.722 files per voice."""

    def __init__(self, tree: Path, language: str):
        """Raises UserError if the tree lacks either."""
        name = f"core-sounds-{language}.txt"
        documents = tree / f"usr/share/doc/asterisk-core-sounds-{language}"
        # dpkg compresses long documents only; a short one is left as it is.
        found = [documents / end for end in (f"{name}.gz", name) if (documents / end).is_file()]
        if not found:
            raise UserError(f"{documents} holds no transcripts {name}.gz: {by_hand(language)}")
        self.transcripts = found[0]
        voices = [
            folder
            for folder in sorted((tree / "usr/share/asterisk/sounds").glob(f"{language}_*"))
            if next(folder.rglob("*.g722"), None)
        ]
        if not voices:
            place = f"{tree}/usr/share/asterisk/sounds/{language}_*"
            raise UserError(f"{place} holds no .g722 files: {by_hand(language)}")
        if len(voices) > 1:
            names = ", ".join(voice.name for voice in voices)
            raise UserError(f"{tree} has several voices ({names}) but one set of transcripts: keep one voice.")
        self.sounds = voices[0]
        self.speaker = self.sounds.name

    def lines(self) -> list[str]:
        """The lines of the transcripts. Raises UserError if they are damaged."""
        return read_lines(self.transcripts)

    def audio(self) -> dict[str, Path]:
        """The G.722 file of each key, such as `digits/1`."""
        files = sorted(self.sounds.rglob("*.g722"))
        return {file.relative_to(self.sounds).with_suffix("").as_posix(): file for file in files}


def package_names(language: str) -> tuple[str, str]:
    """The package of the transcripts and the one of the audio."""
    return f"asterisk-core-sounds-{language}", f"asterisk-core-sounds-{language}-g722"


def by_hand(language: str) -> str:
    """What to do if the packages cannot be fetched here."""
    return (
        "on a Debian or Ubuntu machine with a network run "
        f"`apt-get update && apt-get download {' '.join(package_names(language))}`, "
        "put the two .deb files into one folder and name it with packages=FOLDER."
    )


@contextlib.contextmanager
def unpacked_prompts(packages: str | Path | None, language: str) -> Iterator[Prompts]:
    """The prompts of `language` from the folder `packages`, or fetched with `apt-get download` where it is None.

    The folder holds the two .deb files, or what they unpack to (`usr/share/...`), itself or one folder down.
    Raises UserError, saying how to get the packages by hand.
    """
    with tempfile.TemporaryDirectory(prefix="asterisk-") as temporary:
        folder = _fetch(language, Path(temporary)) if packages is None else Path(packages).expanduser()
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder} (packages={packages}): {by_hand(language)}")
        debs = {name: deb for name in package_names(language) if (deb := _only(folder, name))}
        if debs:
            missing = [name for name in package_names(language) if name not in debs]
            if missing:
                raise UserError(f"{folder} lacks the package {missing[0]}_*.deb: {by_hand(language)}")
            tree = Path(temporary) / "tree"
            for deb in debs.values():
                unpack(deb, tree)
        else:
            trees = [
                place
                for place in (folder, *sorted(path for path in folder.iterdir() if path.is_dir()))
                if (place / f"usr/share/doc/asterisk-core-sounds-{language}").is_dir()
            ]
            if not trees:
                raise UserError(f"{folder} holds no Asterisk prompts in {language!r}: {by_hand(language)}")
            tree = trees[0]
        yield Prompts(tree, language)


def _only(folder: Path, name: str) -> Path | None:
    found = sorted(folder.glob(f"{name}_*.deb"))
    if len(found) > 1:
        raise UserError(f"{folder} holds several versions of {name}: keep one of {', '.join(f.name for f in found)}.")
    return found[0] if found else None


def _fetch(language: str, folder: Path) -> Path:
    try:
        apt = subprocess.run(
            ["apt-get", "download", *package_names(language)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=600,
        )
    except FileNotFoundError:
        raise UserError(f"There is no apt-get here to fetch the Asterisk prompts: {by_hand(language)}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"Fetching the Asterisk prompts failed ({error}): {by_hand(language)}") from None
    if apt.returncode != 0:
        errors = [line for line in apt.stderr.splitlines() if line.startswith("E:")] or apt.stderr.splitlines()[-1:]
        reason = " ".join(errors) or f"exit status {apt.returncode}"
        raise UserError(f"`apt-get download` could not fetch the Asterisk prompts ({reason}): {by_hand(language)}")
    return folder


def unpack(deb: Path, tree: Path) -> None:
    """Unpacks the files of a .deb into `tree`, with dpkg-deb if it is installed. Raises UserError if it is damaged."""
    tree.mkdir(parents=True, exist_ok=True)
    if shutil.which("dpkg-deb"):
        dpkg = subprocess.run(["dpkg-deb", "-x", deb, tree], capture_output=True, text=True, errors="replace")
        if dpkg.returncode != 0:
            raise UserError(f"{deb} is not a complete Debian package ({dpkg.stderr.strip()}): download it again.")
        return
    unpack_with_python(deb, tree)


def unpack_with_python(deb: Path, tree: Path) -> None:
    """`unpack` without dpkg-deb: a .deb is an ar archive with a data.tar in it (deb(5))."""
    try:
        name, data = next((name, data) for name, data in _ar_members(deb.read_bytes()) if name.startswith("data.tar"))
        if name.endswith(".zst"):
            raise UserError(f"{deb} is packed with zstd, which needs dpkg-deb: install dpkg, or unpack it elsewhere.")
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            archive.extractall(tree, filter="data")
    except (StopIteration, OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
        raise UserError(
            f"{deb} is not a complete Debian package ({error or 'no data.tar'}): download it again."
        ) from None


def _ar_members(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each file in an ar archive: 60-byte headers, contents padded to even lengths."""
    if archive[:8] != b"!<arch>\n":
        raise ValueError("not an ar archive")
    at = 8
    while at + 60 <= len(archive):
        name, size = archive[at : at + 16].decode("ascii").strip().rstrip("/"), int(archive[at + 48 : at + 58])
        content = archive[at + 60 : at + 60 + size]
        if len(content) < size:
            raise ValueError("cut short")
        yield name, content
        at += 60 + size + size % 2
