"""Utterances for small trainings."""

import numpy as np
import pytest
import soundfile
from lhotse import MonoCut, Recording, SupervisionSegment

from tests.support.small_training import TEXTS


@pytest.fixture(scope="module")
def cuts(tmp_path_factory):
    """Eight utterances of noise, from a quarter to half a second."""
    folder, random = tmp_path_factory.mktemp("audio"), np.random.default_rng(0)
    made = []
    for number, text in enumerate(TEXTS):
        path = folder / f"{number}.flac"
        soundfile.write(path, 0.1 * random.standard_normal(4000 + 571 * number), 16000)
        recording = Recording.from_file(path)
        name, seconds = f"utterance-{number}", recording.duration
        supervision = SupervisionSegment(name, recording.id, 0.0, seconds, text=text)
        made.append(MonoCut(name, 0.0, seconds, 0, recording=recording, supervisions=[supervision]))
    return made
