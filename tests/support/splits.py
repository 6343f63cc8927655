"""Small splits of recorded noise, without a corpus."""

import numpy
import soundfile


def split_of(*recordings, whole=False):
    """Two cuts of 0.05 s of each recording, or one of all of it, as a checked split."""
    from lhotse import MonoCut

    from asr.data.checks import CheckedSplit

    cuts = []
    for recording in recordings:
        stretches = [(0.0, recording.duration)] if whole else [(0.0, 0.05), (0.05, 0.05)]
        cuts += [
            MonoCut(f"{recording.id}-{number}", start, duration, 0, recording=recording)
            for number, (start, duration) in enumerate(stretches)
        ]
    everything = list(range(len(cuts)))
    return CheckedSplit("dev", cuts, labels=everything, references=everything, frames=everything, dropped=[])


def recorded(file, value):
    soundfile.write(file, numpy.full(1600, value), 16000, subtype="PCM_16")
