"""Speech that a machine can be written for: a letter is a tone, a pause is silence. And that machine, as a model folder.

Real parts with weights set by hand: filter banks, a Transformer whose self-attention and feed-forward layer add nothing, and a
head that compares the spectrum with those of the tones. What it hears in a frame depends on that frame alone, so that windows
of a recording give the same emissions as the whole, and its times are known to a frame.
"""

from __future__ import annotations

from pathlib import Path

import numpy
import torch

RATE = 16000
LETTERS = "abcdefgh"
HOP, WINDOW = 0.01, 0.025
GAP = 0.04  # seconds of silence behind every tone, so that two equal ones are two


def frequency(letter: str) -> float:
    return 300.0 * 1.35 ** LETTERS.index(letter)


def tones(text: str, seconds: float = 0.1, space: float = 0.2, rate: int = RATE, around: float = 0.0) -> numpy.ndarray:
    """The waveform (samples,) float32 of a text. A letter takes `seconds` and the gap, a space `space`, in which a tone of its
    own is heard; a dot is half a second of silence. around: seconds of silence before and behind it."""
    parts = [silence(around, rate)]
    for letter in text:
        if letter == ".":
            parts.append(silence(0.5, rate))
        elif letter == " ":
            parts += [silence(space / 2 - 0.03, rate), tone(5500.0, 0.06, rate), silence(space / 2 - 0.03, rate)]
        else:
            parts += [tone(frequency(letter), seconds, rate), silence(GAP, rate)]
    return numpy.concatenate([*parts, silence(around, rate)]).astype(numpy.float32)


def tone(hertz: float, seconds: float, rate: int) -> numpy.ndarray:
    samples = numpy.arange(round(seconds * rate))
    # swelling over 10 ms, as a tone that is cut off clicks, and a click is heard as something else
    swelling = numpy.clip(numpy.minimum(samples, samples[::-1]) / (0.01 * rate), 0, 1)
    return 0.3 * numpy.sin(2 * numpy.pi * hertz * samples / rate) * swelling


def silence(seconds: float, rate: int = RATE) -> numpy.ndarray:
    return numpy.zeros(round(seconds * rate))


def tone_model(folder: Path, subsampling: int = 2, attention: str = "full") -> Path:
    """A model folder that reads tones as characters. Returns the folder."""
    from asr.model.folder import save_model
    from asr.text.units import BLANK
    from asr.text.units.characters import SPACE, Characters

    units = Characters([BLANK, SPACE, *LETTERS])
    save_model(Path(folder), built(subsampling, attention, len(units.symbols)), units, {"corpus": {"name": "cuts"}})
    return Path(folder)


def built(subsampling: int, attention: str, units: int, output_subsampling: int = 1):
    from asr.model.network import Model

    mels = 40
    model = Model(
        {
            "features": {
                "sample_rate": RATE, "mels": mels, "window_seconds": WINDOW, "hop_seconds": HOP, "normalization": "none",
            },
            "encoder": {
                "name": "transformer", "layers": 1, "heads": 1, "head_dim": mels, "feed_forward": 8, "dropout": 0.0,
                "norm": "pre", "front_end": "stack", "subsampling": subsampling, "shared_qk": attention == "lsh",
                "output_subsampling": output_subsampling,
            },
            "attention": {"name": attention},
            "units": units,
        }
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        # the mean of the stacked frames, so loud that positions do not matter beside it
        identity = 1000.0 * torch.eye(mels) / subsampling
        model.encoder.front_end.projection.weight.copy_(torch.cat([identity] * subsampling, dim=1))
        model.encoder.final_norm.weight.fill_(1.0)
        sounds = [tone(5500.0, 0.5, RATE), *(tone(frequency(letter), 0.5, RATE) for letter in LETTERS)]
        spectra = torch.stack([spectrum(model, sound) for sound in sounds])
        model.head.weight[1:] = 0.6 * spectra
        # a tone compared with itself gives 0.6 · 40; silence, all bands alike, gives nothing
        model.head.bias[0] = 14.0
    return model


def spectrum(model, sound: numpy.ndarray) -> torch.Tensor:
    """(mels,) what the final layer sees of a sound."""
    waveform = torch.from_numpy(sound.astype(numpy.float32))[None]
    features, lengths = model.features(waveform, torch.tensor([waveform.shape[1]]))
    hidden, _ = model.encoder(features, lengths)
    return hidden[0, hidden.shape[1] // 2]
