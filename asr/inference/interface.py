"""The Python interface, exported by `asr` itself: `asr.load`, `asr.attention`.

    recognizer = asr.load("runs/spoken/full/2026-01-31_12-00-00", attention="i_clustered-100", device="cpu")
    transcript = recognizer.transcribe("talk.wav")
    print(transcript.text, [(word.text, word.start, word.end, word.confidence) for word in transcript.words])

It gives the same results as `transcribe.py`, and takes the same settings.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from asr.audio.arrays import sound_of
from asr.config.schema import Schema, stated_by
from asr.config.settings import CONF, all_knobs, plain
from asr.config.values import check_value
from asr.errors import UserError
from asr.inference.decoders import decoders
from asr.inference.transcription import Transcript
from asr.inference.transcription.inputs import Source
from asr.inference.transcription.remarks import Remarks
from asr.inference.transcription.request import Request
from asr.inference.transcription.transcriber import Transcriber
from asr.model.attention import attentions, parse_label
from asr.model.network import Model
from asr.text.units import Units

if TYPE_CHECKING:
    import numpy
    import torch

    from asr.model.attention import Attention

    Audio = str | os.PathLike[str] | numpy.ndarray | torch.Tensor

# keys of conf/transcribe.yaml that are arguments of `load`, or only for the command line
NO_SETTINGS = ("checkpoint", "files", "format", "output", "device", "attention", "decoder", "defaults", "hydra")


class Recognizer:
    """A trained model and a decoder, ready to transcribe. Made by `asr.load`."""

    def __init__(self, request: Request):
        """Raises UserError if the checkpoint cannot be opened, or if the settings do not fit it or contradict each other."""
        self._transcriber = Transcriber.of(request)
        _ = self._transcriber.reader  # so that the decoder's errors are raised here

    @property
    def model(self) -> Model:
        """The network: waveforms (batch, samples) float32 and their lengths → log-probabilities (batch, time, units)."""
        return self._transcriber.model

    @property
    def units(self) -> Units:
        """What the model emits: phonemes, characters or pieces of words."""
        return self._transcriber.units

    @property
    def sample_rate(self) -> int:
        """The model's sample rate in Hz; other audio is resampled to it."""
        return self._transcriber.cutting.grid.sample_rate

    def __repr__(self) -> str:
        request = self._transcriber.request
        return (
            f"Recognizer({request.checkpoint!r}, attention={self.model.attention_label()!r}, "
            f"decoder={request.decoder['name']!r})"
        )

    @overload
    def transcribe(self, audio: Audio, sample_rate: int | None = None) -> Transcript: ...

    @overload
    def transcribe(self, audio: list[Any] | tuple[Any, ...], sample_rate: int | None = None) -> list[Transcript]: ...

    def transcribe(
        self, audio: Audio | list[Any] | tuple[Any, ...], sample_rate: int | None = None
    ) -> Transcript | list[Transcript]:
        """Transcribes a recording of any length, or each of a list of recordings.

        audio: a file of any format, or a numpy array or torch tensor: (time,), (channels, time) or (time, channels), floats
            between -1 and 1 or integers of 8, 16 or 32 bits. A list of these gives a list of transcripts, in its order.
        sample_rate: of arrays and tensors, in Hz; files have their own.

        A transcript has `text`; `words`, each with `text`, `start`, `end` (seconds) and `confidence` (0..1); `confidence`,
        their mean; `seconds`, its length; and `kind`, which is "phonemes" if neither the units nor the decoder know words.
        Warns (`warnings`) of recordings that may be recognized poorly, such as channels that cancel each other.
        Raises UserError, naming the recording, for one that cannot be read, is damaged, or holds no sound.
        """
        several = isinstance(audio, (list, tuple))
        each = audio if isinstance(audio, (list, tuple)) else [audio]
        sources = [
            source_of(one, sample_rate, f"array {number}" if several else "the array")
            for number, one in enumerate(each, start=1)
        ]
        remarks = Remarks(self.sample_rate, lambda sentence: warnings.warn(sentence, stacklevel=2))
        transcripts = []
        for result in self._transcriber.transcripts(sources, remarks):
            if isinstance(result, str):
                raise UserError(result)
            source, transcript = result
            if not transcript.items:
                remarks.unheard(source)
            transcripts.append(dataclasses.replace(transcript, name=source.shown))
        remarks.count()
        return transcripts if several else transcripts[0]


def load(
    checkpoint: str | os.PathLike[str],
    attention: str | Mapping[str, Any] | None = None,
    device: str = "auto",
    decoder: str | Mapping[str, Any] | None = None,
    **settings: Any,
) -> Recognizer:
    """Opens a trained model without running any code in it.

    checkpoint: a run's folder, a .ckpt file or a model folder.
    attention: one to use instead of the model's own, by its label ("full", "i_clustered-100") or its settings
        ({"name": "i_clustered", "clusters": 100, "topk": 16}).
    device: "auto" (a GPU if there is one), "cpu" or "cuda".
    decoder: "greedy", "beam", "lexicon", "wfst" or "phones", or its settings ({"name": "wfst", "lm": "lm.arpa"}); None: "greedy",
        or "phones" for a model without a blank. Weights that `tune_decoder` found for the run are the defaults.
    settings: those of `conf/transcribe.yaml`, such as window_seconds=20, and knobs of the attention, such as clusters=50.

    Raises UserError, with a sentence, for files that are missing, names that are unknown, and settings that do not fit together.
    """
    knobs = {key: settings.pop(key) for key in list(settings) if key in all_knobs()}
    check_settings({**settings, **knobs})
    named = {"name": decoder or "greedy"} if decoder is None or isinstance(decoder, str) else decoder
    chosen, typed = decoder_settings(named)
    typed = [] if decoder is None else typed
    return Recognizer(
        Request(
            files=[],
            checkpoint=str(Path(checkpoint).expanduser()),
            attention=None if attention is None else attention_settings(attention),
            knobs=knobs,
            decoder=chosen,
            decoder_typed=typed,
            device=device,
            format="json",  # with confidences
            **settings,
        )
    )


def attention(name: str, seed: int = 0, **knobs: Any) -> Attention:
    """An attention as a module, for models of any kind: `asr.attention("i_clustered", clusters=100)`.

    name: as in `conf/attention/`, or with its first knob, "i_clustered-100". seed: of its random draws, such as hash planes.

    The module takes queries, keys (batch, heads, time, dim) and values (batch, heads, time, value dim) in float64, float32,
    float16 or bfloat16, and returns (batch, heads, time, value dim). `lengths` (batch,) int64 are the valid time steps of padded
    sequences, `key_lengths` those of the keys where they differ. It is differentiable, and runs as Triton kernels on a GPU and
    as plain PyTorch anywhere.
    Raises UserError for an unknown name or knob, and for a value out of the knob's range.
    """
    return attentions.create({**parse_label(name), **knobs}, seed=seed)


def source_of(audio: Any, sample_rate: int | None, name: str) -> Source:
    """The source of a path or an array. name: what messages call an array. Raises UserError for anything else."""
    if isinstance(audio, (str, os.PathLike)):
        if sample_rate is not None:
            raise UserError(
                f"sample_rate={sample_rate} is for arrays, but {audio} is a file, which has its own: leave it out."
            )
        return Source(os.fspath(Path(audio).expanduser()))
    if not hasattr(audio, "dtype") or not hasattr(audio, "shape"):
        raise UserError(
            f"{name} is of type {type(audio).__name__}: give a path, a numpy array or a torch tensor, or a list of these."
        )
    return Source(name, sound=sound_of(audio, sample_rate, name))


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raises UserError for a setting that `conf/transcribe.yaml` does not have, or a value of the wrong kind."""
    from omegaconf import DictConfig, OmegaConf

    default = OmegaConf.merge(*(OmegaConf.load(CONF / f"{name}.yaml") for name in ("knobs", "transcribe")))
    assert isinstance(default, DictConfig)  # both files are ours
    for key in NO_SETTINGS:
        default.pop(key, None)
    schema = Schema("transcribe", default, stated=stated_by(["transcribe"]))
    for key, value in settings.items():
        check_value(schema, key, value)


def attention_settings(chosen: str | Mapping[str, Any]) -> dict[str, Any]:
    """All settings of an attention, with defaults from `conf/`."""
    from omegaconf import OmegaConf

    given = parse_label(chosen) if isinstance(chosen, str) else dict(chosen)
    file = CONF / "attention" / f"{attentions.get(name_in(given, 'attention')).name}.yaml"
    default = OmegaConf.merge(OmegaConf.load(CONF / "knobs.yaml"), {"attention": OmegaConf.load(file)})
    return {**plain(default)["attention"], **given}


def decoder_settings(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """(all settings of a decoder, with defaults from `conf/`; the names of those given)."""
    from omegaconf import OmegaConf

    name = decoders.get(name_in(given, "decoder")).name
    return {**plain(OmegaConf.load(CONF / "decoder" / f"{name}.yaml")), **given}, list(given)


def name_in(settings: Mapping[str, Any], kind: str) -> str:
    if "name" not in settings:
        raise UserError(f"{kind}={dict(settings)} has no name: write {kind}={{'name': …, …}}.")
    return settings["name"]
