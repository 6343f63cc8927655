"""Real speech: the prompts of the Asterisk telephone exchange, read by one voice per language, 16 kHz G.722.

The recordings and transcripts are Debian packages under CC-BY-SA: they are fetched, never shipped.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from asr.data.corpora import Corpus, CorpusSource
from asr.data.corpora.asterisk.packages import Prompts, unpacked_prompts
from asr.data.corpora.asterisk.text import LANGUAGES, read_transcripts, spoken_words
from asr.data.corpora.preparing.folders import (
    SPLITS,
    check_fractions,
    corpus_in,
    fingerprint,
    read_facts,
    split_by_hash,
    utterance_cut,
    whole_or_not_at_all,
    write_manifests,
)
from asr.data.corpora.preparing.unusable import NO_TRANSCRIPT, nothing_usable, unusable_audio
from asr.errors import UserError, nearest

if TYPE_CHECKING:
    from lhotse import MonoCut

SAMPLE_RATE = 16000
TOO_LONG = "longer than"
# Raised whenever the same packages would be prepared differently.
FORMAT = 1


@dataclasses.dataclass
class AsteriskCorpus(CorpusSource):
    """language: en, es, fr, it or ru.
    packages: a folder with the two .deb files or with what they unpack to; else `apt-get download` fetches them.
    max_seconds: longer prompts are left out.
    dev_fraction, test_fraction: of the prompts, chosen by a stable hash of (seed, key); prompts with the same words
        share a split.
    """

    name = "asterisk"
    places = ("packages",)

    language: str = "en"
    packages: str | None = None
    max_seconds: float = 30.0
    dev_fraction: float = 0.10
    test_fraction: float = 0.15
    seed: int = 1

    def load(self, cache: Path, workers: int = 2) -> Corpus:
        """Prepares 16 kHz FLAC files and cuts below `cache` once (some seconds, in this process); returns the corpus.

        Raises UserError for a wrong setting, and if the packages cannot be fetched or are damaged.
        """
        if self.language not in LANGUAGES:
            raise UserError(f"There are no Asterisk prompts in {self.language!r}: {nearest(self.language, LANGUAGES)}.")
        check_fractions(self.dev_fraction, self.test_fraction)
        if (
            isinstance(self.max_seconds, bool)
            or not isinstance(self.max_seconds, (int, float))
            or self.max_seconds <= 0
        ):
            raise UserError(f"max_seconds={self.max_seconds} is not a length in seconds: give a number above 0.")
        settings = dataclasses.asdict(self)
        del settings["packages"]
        folder = Path(cache) / "asterisk" / f"{self.language}-{fingerprint(FORMAT, settings)}"
        prepared = folder.is_dir()
        if not prepared:
            with unpacked_prompts(self.packages, self.language) as prompts:
                self._prepare(prompts, folder, settings)
        corpus = corpus_in(folder, self.name)
        if prepared and self.packages is not None:
            with unpacked_prompts(self.packages, self.language) as prompts:
                if content_hash(prompts) != read_facts(folder)["content"]:
                    raise UserError(
                        f"{folder} was prepared from other packages than those in {self.packages}: "
                        "remove that folder, or choose another cache=FOLDER."
                    )
        return corpus

    def _prepare(self, prompts: Prompts, folder: Path, settings: dict) -> None:
        texts, left_out = self._words(prompts)
        audio = prompts.audio()
        # the packages list more prompts than they have recordings
        left_out += [(key, "transcript without audio") for key in texts if key not in audio]
        known = set(texts) | {key for key, _ in left_out}
        left_out += [(key, NO_TRANSCRIPT) for key in audio if key not in known]
        dropped: list[tuple[str, str]] = []
        with whole_or_not_at_all(folder) as part:
            cuts = []
            for key in sorted(texts.keys() & audio.keys()):
                cut, reason = self._convert(key, texts[key], audio[key], prompts.speaker, part)
                if cut is not None:
                    cuts.append(cut)
                elif reason.startswith(TOO_LONG):
                    left_out.append((key, reason))
                else:
                    dropped.append((key, reason))
            if not cuts:
                raise UserError(nothing_usable(f"{prompts.sounds} has", dropped + left_out))
            facts = {"settings": settings, "sample_rate": SAMPLE_RATE, "content": content_hash(prompts)}
            # the splits are made of usable prompts, so the others belong to none
            write_manifests(part, self._split(cuts), sorted(dropped), facts, sorted(left_out))

    def _words(self, prompts: Prompts) -> tuple[dict[str, str], list[tuple[str, str]]]:
        transcripts, dropped = read_transcripts(prompts.lines(), prompts.transcripts.name)
        texts = {}
        for key, transcript in transcripts.items():
            words, reason = spoken_words(transcript, self.language)
            if reason is None:
                texts[key] = words
            else:
                dropped.append((key, reason))
        return texts, dropped

    def _convert(self, key: str, words: str, source: Path, speaker: str, folder: Path) -> tuple[MonoCut | None, str]:
        from asr.audio.reading import read_audio
        from asr.audio.writing import write_flac

        try:
            waveform, _ = read_audio(source, SAMPLE_RATE)
        except UserError as error:
            return None, unusable_audio(source, source.name, str(error))
        if len(waveform) > self.max_seconds * SAMPLE_RATE:
            return None, f"{TOO_LONG} {self.max_seconds:g} s"
        path = Path("audio") / f"{key}.flac"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_flac(folder / path, waveform, SAMPLE_RATE)
        return utterance_cut(key, str(path), len(waveform), SAMPLE_RATE, words, speaker, self.language), ""

    def _split(self, cuts: list[MonoCut]) -> dict[str, list[MonoCut]]:
        """Prompts with the same words follow the first of their keys, so that no held-out text is trained on."""
        first_key: dict[str, str] = {}
        for cut in cuts:
            first_key.setdefault(cut.supervisions[0].text, cut.id)
        split_of = split_by_hash(first_key.values(), self.dev_fraction, self.test_fraction, self.seed)
        splits: dict[str, list[MonoCut]] = {split: [] for split in SPLITS}
        for cut in cuts:
            splits[split_of[first_key[cut.supervisions[0].text]]].append(cut)
        return splits


def content_hash(prompts: Prompts) -> str:
    """A digest of the transcripts and recordings, the same whether they come packed or unpacked."""
    digest = hashlib.sha256("\n".join(prompts.lines()).encode())
    for key, file in prompts.audio().items():
        digest.update(f"{key}\n".encode() + file.read_bytes())
    return digest.hexdigest()
