"""Recordings become FLAC files: bit for bit, complete or absent, and the next run continues from finished ones."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import soundfile

from asr.data.corpora.preparing import recordings
from asr.data.corpora.preparing.recordings import Conversion, convert_recordings, flac_samples
from asr.errors import UserError
from tests.support.sphere_files import SHORTEN_PCM, SHORTEN_ULAW, first_release, g711, write_sphere

REPOSITORY = Path(__file__).resolve().parents[3]


def sound(samples: int, channels: int = 1, seed: int = 0) -> numpy.ndarray:
    return numpy.random.default_rng(seed).normal(0, 3000, (samples, channels)).astype(numpy.int16)


def convert(conversions, folder, sample_rate=16000, workers=1, **more):
    return convert_recordings(conversions, folder, sample_rate, workers, "converting", **more)


def utterances(folder: Path, count: int, samples: int = 900) -> list[Conversion]:
    """Compressed recordings of one channel, of different lengths."""
    for number in range(count):
        write_sphere(folder / f"{number}.wv1", sound(samples + number, seed=number), 16000, SHORTEN_PCM[number % 3])
    return [Conversion(folder / f"{number}.wv1", 0, f"audio/{number}.flac") for number in range(count)]


def contents(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("workers", [1, 2])
def test_recordings_become_mono_flac_files_bit_for_bit(tmp_path, workers):
    conversions = utterances(tmp_path, 9)
    samples = convert(conversions, tmp_path / "out", workers=workers)
    assert samples == {f"audio/{number}.flac": 900 + number for number in range(9)}
    assert contents(tmp_path / "out") == [f"audio/{number}.flac" for number in range(9)]
    for number in range(9):
        read, rate = soundfile.read(tmp_path / f"out/audio/{number}.flac", dtype="int16")
        assert rate == 16000 and numpy.array_equal(read, sound(900 + number, seed=number)[:, 0])
        assert soundfile.info(tmp_path / f"out/audio/{number}.flac").subtype == "PCM_16"


def test_each_side_of_a_conversation_is_a_file_and_the_source_is_decoded_once(tmp_path, monkeypatch):
    samples = sound(5000, 2)
    source = write_sphere(tmp_path / "sw02001.sph", samples, 8000, "ulaw", **first_release(samples))
    decoded = []
    read = recordings._read
    monkeypatch.setattr(recordings, "_read", lambda source: decoded.append(source) or read(source))
    conversions = [Conversion(source, channel, f"sw02001-{'AB'[channel]}.flac") for channel in (1, 0)]
    assert convert(conversions, tmp_path / "out", 8000) == {"sw02001-B.flac": 5000, "sw02001-A.flac": 5000}
    for side, column in zip("AB", g711(samples, "ulaw").T):
        assert numpy.array_equal(soundfile.read(tmp_path / f"out/sw02001-{side}.flac", dtype="int16")[0], column)
    assert decoded == [source]


def test_other_formats_are_converted_too(tmp_path):
    samples = sound(2000, 2)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    soundfile.write(tmp_path / "b.flac", samples[:, 0], 16000)
    soundfile.write(tmp_path / "c.ogg", samples[:, 0], 16000)
    conversions = [Conversion(tmp_path / name, channel, f"{name}-{channel}.flac") for name, channel in
                   (("a.wav", 0), ("a.wav", 1), ("b.flac", 0), ("c.ogg", 0))]  # fmt: skip
    assert set(convert(conversions, tmp_path / "out").values()) == {2000}
    for name, column in (("a.wav-0", 0), ("a.wav-1", 1), ("b.flac-0", 0)):
        read = soundfile.read(tmp_path / f"out/{name}.flac", dtype="int16")[0]
        assert numpy.array_equal(read, samples[:, column])


def test_another_rate_is_refused_unless_resampling_is_asked_for(tmp_path):
    write_sphere(tmp_path / "a.sph", sound(4001), 8000, "ulaw")
    conversions = [Conversion(tmp_path / "a.sph", 0, "a.flac")]
    with pytest.raises(UserError, match="a.sph has a sample rate of 8000 Hz; expected 16000 Hz"):
        convert(conversions, tmp_path / "out")
    assert convert(conversions, tmp_path / "out", resample=True) == {"a.flac": 8002}
    assert soundfile.info(tmp_path / "out/a.flac").samplerate == 16000
    before = (tmp_path / "out/a.flac").stat().st_mtime_ns
    assert convert(conversions, tmp_path / "out", resample=True) == {"a.flac": 8002}
    assert (tmp_path / "out/a.flac").stat().st_mtime_ns == before


def test_a_second_run_makes_only_what_is_not_there(tmp_path, monkeypatch):
    conversions = utterances(tmp_path, 6)
    first = convert(conversions, tmp_path / "out")
    (tmp_path / "out/audio/2.flac").unlink()
    written = []
    write = recordings._write
    monkeypatch.setattr(recordings, "_write", lambda path, *rest: written.append(path.name) or write(path, *rest))
    assert convert(conversions, tmp_path / "out") == first
    assert written == ["2.flac"]


def test_what_is_there_but_not_as_it_should_be_is_made_again(tmp_path):
    conversions = utterances(tmp_path, 6, samples=20000)
    convert(conversions, tmp_path / "out")
    audio = tmp_path / "out/audio"
    right = {path.name: path.read_bytes() for path in audio.iterdir()}
    (audio / "0.flac").write_bytes(b"")
    (audio / "1.flac").write_bytes(right["1.flac"][:-3000])  # its header still promises all
    (audio / "2.flac").write_bytes(right["3.flac"])  # another length
    (audio / "3.flac").write_bytes(b"no audio")
    soundfile.write(audio / "4.flac", sound(20004), 8000)
    soundfile.write(audio / "5.flac", sound(20005, 2), 16000)
    convert(conversions, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in audio.iterdir()} == right


def test_all_broken_sources_are_listed_and_the_others_are_converted(tmp_path):
    conversions = utterances(tmp_path, 5)
    write_sphere(tmp_path / "1.wv1", sound(900), 16000, "pcm", cut_to=0.5)
    write_sphere(tmp_path / "3.wv1", sound(900), 16000, SHORTEN_PCM[2], sample_checksum=1)
    (tmp_path / "4.wv1").unlink()
    with pytest.raises(UserError) as caught:
        convert(conversions, tmp_path / "out")
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 of 5 recordings are broken:" and len(lines) == 4
    for line, name, reason in zip(
        lines[1:], "134", ("900 samples .* 450 are there", "checksum", "There is no audio file")
    ):
        assert f"{name}.wv1" in line and re.search(reason, line)
    assert contents(tmp_path / "out") == ["audio/0.flac", "audio/2.flac"]


def test_of_very_many_broken_sources_the_first_are_named_and_all_are_counted(tmp_path):
    conversions = [Conversion(tmp_path / f"{number}.sph", 0, f"{number}.flac") for number in range(130)]
    with pytest.raises(UserError) as caught:
        convert(conversions, tmp_path / "out", workers=2)
    lines = str(caught.value).splitlines()
    assert lines[0] == "130 of 130 recordings are broken:" and lines[-1] == "  and 80 more"
    assert [f"{number}.sph" in line for number, line in enumerate(lines[1:-1])] == [True] * 50


def test_a_channel_that_is_not_there_is_named(tmp_path):
    write_sphere(tmp_path / "a.sph", sound(900), 16000)
    with pytest.raises(UserError, match="a.sph has 1 channel; expected at least 2"):
        convert([Conversion(tmp_path / "a.sph", 1, "a.flac")], tmp_path / "out")


def test_two_conversions_into_one_file_are_a_mistake_of_the_caller(tmp_path):
    with pytest.raises(ValueError, match=r"x\.flac"):
        convert([Conversion(tmp_path / "a", 0, "x.flac"), Conversion(tmp_path / "b", 0, "x.flac")], tmp_path)


@pytest.mark.parametrize("workers", [1, 2])
def test_where_nothing_can_be_written_a_sentence_says_so(tmp_path, workers):
    conversions = utterances(tmp_path, 6)
    (tmp_path / "out").write_text("a file, where a folder should be")
    with pytest.raises(UserError, match="cannot be written: .*to continue"):
        convert(conversions, tmp_path / "out", workers=workers)


def test_no_space_left_is_a_sentence_and_the_next_run_goes_on(tmp_path):
    # the third recording is larger than files may be, which fails as a full disk does: after a part was written
    conversions = utterances(tmp_path, 5)
    write_sphere(tmp_path / "2.wv1", sound(40000), 16000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16384, limits[1]))
    try:
        with pytest.raises(UserError, match=r"2\.flac cannot be written: File too large\. .* make room"):
            convert(conversions, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(tmp_path / "out") == ["audio/0.flac", "audio/1.flac"]
    assert convert(conversions, tmp_path / "out")["audio/2.flac"] == 40000
    assert len(contents(tmp_path / "out")) == 5


def test_an_interrupt_leaves_whole_files_that_the_next_run_keeps(tmp_path, monkeypatch):
    conversions = utterances(tmp_path, 5)
    replace = os.replace

    def interrupted(source, target):
        if Path(target).name == "3.flac":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(recordings.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(conversions, tmp_path / "out")
    assert contents(tmp_path / "out") == ["audio/0.flac", "audio/1.flac", "audio/2.flac"]
    monkeypatch.undo()
    assert len(convert(conversions, tmp_path / "out")) == 5


def test_what_a_kill_left_half_written_is_written_over(tmp_path):
    conversions = utterances(tmp_path, 2)
    (tmp_path / "out/audio").mkdir(parents=True)
    (tmp_path / "out/audio/.0.flac.partial").write_bytes(b"half")
    convert(conversions, tmp_path / "out")
    assert contents(tmp_path / "out") == ["audio/0.flac", "audio/1.flac"]


@pytest.mark.run
def test_ctrl_c_in_several_processes_ends_them_all_quietly_and_the_next_run_goes_on(tmp_path):
    source = write_sphere(tmp_path / "a.sph", sound(16000 * 30), 8000, SHORTEN_ULAW[2])
    for number in range(200):
        os.link(source, tmp_path / f"{number}.sph")
    program = (
        "import signal, sys\nfrom pathlib import Path\n"
        "from asr.data.corpora.preparing.recordings import Conversion, convert_recordings\n"
        "if __name__ == '__main__':\n"
        # a shell that runs the tests in the background has them ignore it
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"    folder = Path({str(tmp_path)!r})\n"
        "    work = [Conversion(folder / f'{number}.sph', 0, f'{number}.flac') for number in range(200)]\n"
        "    try:\n"
        "        convert_recordings(work, folder / 'out', 8000, 2, 'converting')\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit(130)\n"
    )
    (tmp_path / "program.py").write_text(program)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "program.py"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (tmp_path / "out/3.flac").exists():
        assert process.poll() is None, process.stderr.read()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    assert process.wait(timeout=60) == 130
    assert process.stderr.read() == ""
    done = contents(tmp_path / "out")
    assert 4 <= len(done) < 200 and all(flac_samples(tmp_path / "out" / name, 8000) == 480000 for name in done)
