"""Recordings of tones, and what the model that hears them transcribes."""

from pathlib import Path

import numpy
import soundfile

from asr.inference.transcription.files import Request, transcribe_files
from tests.support.tones import RATE, tones

TEXT = "abba cafe. head bag. fade. beach ace deaf gag. hag"


def record(path, text, rate=RATE, **options):
    """A file in which this text is heard."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tones(text, rate=rate, around=0.2), rate, **options)
    return path


def said(text):
    return text.replace(".", "")


def transcribed(capsys, model, *files, **settings):
    """(what was printed, what was complained about, how many failed)."""
    if "window_seconds" in settings and "one_pass" not in settings:
        settings = {"whole_seconds": 1.0, **settings}
    failed = transcribe_files(Request([str(file) for file in files], str(model), device="cpu", **settings))
    output = capsys.readouterr()
    return output.out, output.err, failed


def record_with_ffmpeg(name, waveform):
    """An M4A file without loss."""
    import av

    with av.open(name, "w") as container:
        stream = container.add_stream("alac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray((32767 * waveform).astype(numpy.int16)[None], format="s16p", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
