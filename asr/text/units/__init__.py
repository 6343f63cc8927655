"""The output units of a recognizer: phonemes, characters or byte-pair pieces, and how words become them. One kind per file.

Units are built from the training split's supervisions and saved with the model, as `units.json` and files beside it.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import inspect
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from asr.errors import UserError, nearest
from asr.registry import Registry
from asr.runtime.files import write_whole
from asr.text.normalization import check_normalizer, normalize, with_language
from asr.text.phones.files import FILE as PHONE_LM
from asr.text.phones.files import digest_of, read_phone_lm, write_phone_lm
from asr.text.phones.model import PhoneLm
from asr.text.phones.slots import Slot

if TYPE_CHECKING:
    from lhotse import SupervisionSegment

units = Registry("asr.text.units", "units")
BLANK = "<blank>"
UNITS_FILE = "units.json"


class UnknownUnit(UserError):
    """An utterance contains something that the units cannot spell; `unit` is the word, character or phoneme."""

    def __init__(self, unit: str, message: str):
        super().__init__(message)
        self.unit = unit


@dataclasses.dataclass(frozen=True)
class Saying:
    """How an utterance may have been said: see `asr.model.losses.lfmmi.Lfmmi`."""

    edge: float = 0.8
    between: float = 0.2
    pronunciations: str = "all"


class Units(abc.ABC):
    """Base class of all units.

    name: as in the registry. metric: the tokens to score, phonemes ("per") or words ("wer"), whose characters can be scored
    too (`asr.scoring.metric`).
    symbols: one per output of the recognizer; the first is the CTC blank, `<blank>`.
    normalizer: the normalizer applied to the text (asr.text.normalization).
    fields: what `units.json` holds besides name and symbols: arguments of the constructor kept as attributes, by type.
    phone_lm: the language model that a training with loss=lfmmi estimated over these units; saved with them.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    fields: ClassVar[dict[str, type]] = {"normalizer": str}
    phone_lm: PhoneLm | None = None

    def __init__(self, symbols: list[str], normalizer: str = "words"):
        check_normalizer(normalizer)
        self.symbols, self.normalizer = list(symbols), normalizer

    @classmethod
    @abc.abstractmethod
    def build(cls, supervisions: Iterable[SupervisionSegment], *arguments: Any, **settings: Any) -> Units:
        """Units for the training split's `supervisions`; the settings are those of `conf/units/<name>.yaml`.

        Raises UserError if the settings or the text do not allow it.
        """

    @classmethod
    def automatic(cls, lexicon: Path | None) -> dict[str, Any]:
        """The values of settings that are "auto". lexicon: the corpus's own, if it has one (asr.data.corpora.Corpus)."""
        return {"normalizer": "words" if lexicon is None else "speech"}

    @abc.abstractmethod
    def encode(self, supervision: SupervisionSegment) -> list[int]:
        """The ids of the spoken units, without blanks; empty for an empty text. Raises UnknownUnit."""

    def unwritable(self, supervision: SupervisionSegment) -> list[str]:
        """The words, characters or phonemes that `encode` has no units for: at least the first of them, if there are any."""
        try:
            self.encode(supervision)
        except UnknownUnit as error:
            return [error.unit]
        return []

    def slots(self, supervision: SupervisionSegment, saying: Saying) -> list[Slot]:
        """All that may have been said, for loss=lfmmi. Raises UnknownUnit, and UserError for units that cannot tell."""
        raise UserError(
            f"units={self.name} does not say how words may be pronounced, nor where there may be silence, which "
            "loss=lfmmi needs. "
            "Use units=phonemes."
        )

    @abc.abstractmethod
    def reference(self, supervision: SupervisionSegment) -> list[str]:
        """The tokens to score against: phonemes or words. Raises UnknownUnit if they cannot be determined."""

    @abc.abstractmethod
    def decode(self, ids: list[int]) -> list[str]:
        """The tokens to score for some ids (without blanks, as `encode` returns them)."""

    def text(self, tokens: list[str]) -> str:
        """Tokens as one line."""
        return " ".join(tokens)

    def normalize(self, supervision: SupervisionSegment) -> tuple[str, Counter]:
        """The supervision's text after normalization, and how often each character was removed."""
        return normalize(supervision.text or "", self.normalizer)

    def words(self, supervision: SupervisionSegment) -> list[str]:
        """The words of the supervision after normalization."""
        return self.normalize(supervision)[0].split()

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        return {symbol: index for index, symbol in enumerate(self.symbols)}

    def settings(self) -> dict[str, Any]:
        """The `fields` as plain values."""
        return {key: kind(getattr(self, key)) for key, kind in self.fields.items()}

    def save(self, folder: Path) -> None:
        """Writes `units.json` and the files beside it into the folder, which it makes if need be."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._save_files(folder)
        fields = {"name": self.name, **self.settings(), "symbols": self.symbols}
        if self.phone_lm is not None:
            write_phone_lm(folder / PHONE_LM, self.phone_lm, self.symbols)
            fields["phone_lm"] = digest_of(self.phone_lm, self.symbols)
        write_whole(folder / UNITS_FILE, json.dumps(fields, ensure_ascii=False, indent=1).encode("utf8"))

    @classmethod
    def load(cls, folder: Path) -> Units:
        """The units saved in the folder. Raises UserError unless they are of this kind and intact."""
        loaded = load_units(folder)
        if not isinstance(loaded, cls):
            raise UserError(
                f"{Path(folder) / UNITS_FILE} holds {loaded.name}, not {cls.name}: use load_units, which loads any."
            )
        return loaded

    def _save_files(self, folder: Path) -> None:  # noqa: B027 (some units have none)
        """Writes the files beside `units.json`."""

    @classmethod
    def _load_files(cls, folder: Path, fields: dict[str, Any]) -> dict[str, Any]:
        """Reads the files beside `units.json`: further arguments of the constructor.

        Removes from `fields` what only serves to check the files.
        """
        return {}


def build_units(
    settings: dict[str, Any],
    supervisions: Iterable[SupervisionSegment],
    lexicon: Path | None = None,
    language: str | None = None,
) -> Units:
    """Builds the units `settings["name"]` with the other settings; "auto" becomes what suits the corpus.

    lexicon, language: of the corpus, if it has them; the language decides how the texts are normalized. Raises UserError for
    an unknown setting.
    """
    settings = dict(settings)
    part = units.get(settings.pop("name"))
    accepted = set(inspect.signature(part.build).parameters) - {"supervisions"}
    for key in settings:
        if key not in accepted:
            raise UserError(f"The units {part.name} take no setting {key!r}: {nearest(key, accepted)}.")
    automatic = part.automatic(lexicon)
    settings = {
        key: automatic[key] if value == "auto" and key in automatic else value for key, value in settings.items()
    }
    if "normalizer" in accepted:
        settings["normalizer"] = with_language(settings.get("normalizer", "words"), language)
    return part.build(supervisions, **settings)


def load_units(folder: Path) -> Units:
    """The units saved in the folder, of any kind. The files are data only: the name in them reaches nothing but our registry.

    Raises UserError if a file is missing, cut short, or has fields that do not belong there.
    """
    folder = Path(folder)
    path = folder / UNITS_FILE
    for file in folder.iterdir() if folder.is_dir() else ():
        if not file.is_file() and not file.is_dir():
            # reading a pipe would block, reading /dev/zero would never end
            raise UserError(
                f"{file} is not a regular file: units are files saved with the model, take them from there."
            )
    try:
        fields = json.loads(path.read_bytes().decode("utf8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): take it from the model again.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}): it is damaged, take it from the model again.") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("name"), str):
        raise UserError(
            f"{path} must hold an object with the units' name ({', '.join(units.names())}): take it from the model again."
        )
    try:
        part = units.get(fields.pop("name"))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    digest = fields.pop("phone_lm", None)
    check_fields(path, part, fields)
    files = part._load_files(folder, fields)
    loaded = part(**fields, **files)
    if digest is not None:
        loaded.phone_lm = read_phone_lm(folder / PHONE_LM, loaded.symbols)
        if digest_of(loaded.phone_lm, loaded.symbols) != digest:
            raise UserError(
                f"{folder / PHONE_LM} is the phone language model of another model: {path} has another digest. "
                "Take both from the same model."
            )
    return loaded


def check_fields(path: Path, part: type[Units], fields: dict[str, Any]) -> None:
    """Raises UserError unless `units.json` has exactly the fields of the units, each of its type."""
    for key in fields:
        if key not in part.fields and key != "symbols":
            raise UserError(
                f"{path} holds a field {key!r} that the units {part.name} do not have: take it from the model again."
            )
    for key, kind in part.fields.items():
        if key not in fields:
            raise UserError(f"{path} lacks the field {key!r} of the units {part.name}: take it from the model again.")
        if type(fields[key]) is not kind:
            raise UserError(
                f"{path}: {key} must be of type {kind.__name__}, not {fields[key]!r}. Take it from the model again."
            )
    check_symbols(path, fields.get("symbols"))


def check_symbols(path: Path, symbols: Any) -> None:
    if (
        not isinstance(symbols, list)
        or len(symbols) < 2
        or symbols[0] != BLANK
        or not all(isinstance(symbol, str) and symbol for symbol in symbols)
        or len(set(symbols)) < len(symbols)
    ):
        raise UserError(
            f"{path}: symbols must be a list of {BLANK!r} and at least one other string, all different. Take it from the model "
            "again."
        )
