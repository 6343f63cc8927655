"""The process that speaks planned utterances: `python -m asr.data.corpora.spoken.speaker FOLDER FIRST STEP`.

It reads `FOLDER/plan.json`, synthesizes every STEP-th utterance starting with FIRST, writes `FOLDER/<split>/<id>.flac`, and
prints one JSON object per line: the utterance's id, samples, phonemes and words, or {"error": …} as the last line. It is a
separate process because eSpeak NG forks for every utterance, which is quick and safe only without torch and its threads.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import sys
from pathlib import Path

import numpy as np

from asr.data.corpora.spoken.plan import Shape, Utterance
from asr.errors import UserError
from asr.text import espeak

# Noise of a quiet recording, far below speech: about -78 dB below full scale. Exact zeros do not occur in recordings.
_NOISE = 4.0
_SHORTEST = 1.0  # seconds


def resample(samples: np.ndarray, rate: int, new_rate: int, telephone: bool) -> np.ndarray:
    """Float samples (samples,) at `rate` Hz as (ceil(samples * new_rate / rate),) at `new_rate` Hz, by Fourier transform.

    The spectrum is cut off smoothly over the upper 5 % of the new band; for a telephone it is 300-3400 Hz (ITU-T G.712's
    nominal band).
    """
    block = rate // math.gcd(rate, new_rate)
    new_block = new_rate // math.gcd(rate, new_rate)
    # A twentieth of a second of silence keeps the end from wrapping around into the start.
    blocks = _smooth(math.ceil((len(samples) + rate // 20) / block))
    spectrum = np.fft.rfft(samples, blocks * block)
    spectrum = spectrum[: blocks * new_block // 2 + 1]
    frequencies = np.fft.rfftfreq(blocks * new_block, 1 / new_rate)
    if telephone:
        weight = _edge(frequencies, 200, 300) * (1 - _edge(frequencies, 3400, 3600))
    else:
        weight = 1 - _edge(frequencies, 0.475 * new_rate, 0.5 * new_rate)
    result = np.fft.irfft(spectrum * weight, blocks * new_block) * (new_rate / rate)
    return result[: math.ceil(len(samples) * new_rate / rate)]


def _edge(frequencies: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low` Hz, 1 above `high`, a raised cosine between."""
    return 0.5 - 0.5 * np.cos(np.pi * np.clip((frequencies - low) / (high - low), 0, 1))


def _smooth(number: int) -> int:
    """The next number without prime factors above 5: a length for which the Fourier transform is fast."""
    while True:
        rest = number
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return number
        number += 1


def mu_law(samples: np.ndarray) -> np.ndarray:
    """Samples in -1..1 after 8-bit mu-law companding and back (the continuous form of ITU-T G.711, mu = 255)."""
    companded = np.sign(samples) * np.log1p(255 * np.abs(samples)) / np.log1p(255)
    companded = np.round(companded * 127) / 127
    return np.sign(companded) * np.expm1(np.abs(companded) * np.log1p(255)) / 255


def speak(utterance: Utterance, shape: Shape) -> tuple[np.ndarray, list, list]:
    """int16 samples (samples,) at the shape's rate, phonemes and words as (symbol, start, duration) in seconds."""
    rate = utterance.rate
    padding = utterance.before + utterance.after
    for _ in range(4):
        spoken = espeak.synthesize(
            utterance.text, utterance.voice, rate, utterance.pitch, utterance.pitch_range, utterance.seed
        )
        seconds = len(spoken.samples) / spoken.sample_rate
        if seconds + padding <= shape.longest:
            break
        rate = min(450, math.ceil(rate * 1.03 * seconds / (shape.longest - padding)))
    else:
        raise UserError(
            f"Utterance {utterance.id} cannot be spoken within {shape.longest} s: {utterance.text!r}. Choose another corpus.seed."
        )
    before = round(utterance.before * spoken.sample_rate)
    after = round(max(utterance.after, _SHORTEST - seconds - utterance.before) * spoken.sample_rate)
    samples = np.pad(spoken.samples.astype(np.float64), (before, after)) * 10 ** (utterance.gain / 20)
    samples = resample(samples, spoken.sample_rate, shape.sample_rate, shape.telephone)
    samples += np.random.default_rng(utterance.seed).normal(0, _NOISE, len(samples))
    if shape.telephone:
        samples = 32767 * mu_law(np.clip(samples / 32767, -1, 1))
    samples = np.clip(np.round(samples), -32768, 32767).astype(np.int16)

    def shifted(segments: list) -> list:
        start_of_speech = before / spoken.sample_rate
        return [(symbol, round(start + start_of_speech, 4), round(seconds, 4)) for symbol, start, seconds in segments]

    return samples, shifted(spoken.phonemes), shifted(spoken.words)


def main(folder: Path, first: int, step: int) -> None:
    import soundfile

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is the parent's to report
    content = json.loads((folder / "plan.json").read_text(encoding="utf8"))
    shape = Shape(**content["shape"])
    try:
        for settings in content["utterances"][first::step]:
            utterance = Utterance(**settings)
            samples, phonemes, spoken_words = speak(utterance, shape)
            file = folder / utterance.split / f"{utterance.id}.flac"
            try:
                soundfile.write(file, samples, shape.sample_rate, subtype="PCM_16")
            except soundfile.SoundFileError as error:
                # for a full disk, libsndfile says no more than "System error"
                free = shutil.disk_usage(folder).free / 2**20
                raise UserError(
                    f"{file} could not be written ({error}), with {free:.0f} MiB free there. Make room."
                ) from None
            result = {"id": utterance.id, "samples": len(samples), "phonemes": phonemes, "words": spoken_words}
            print(json.dumps(result), flush=True)
    except (OSError, UserError) as error:
        sentence = str(error) if isinstance(error, UserError) else f"{error}. Choose another cache=FOLDER."
        print(json.dumps({"error": sentence}), flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
