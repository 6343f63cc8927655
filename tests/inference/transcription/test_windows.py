"""Long recordings are cut where they pause, so that the pieces are like training's utterances; else into windows that overlap."""

import numpy
import pytest
import torch

from asr.inference.alignment.timing import Timing
from asr.inference.decoders.greedy import Greedy
from asr.inference.transcription.joining import Joiner
from asr.inference.transcription.pauses import Cut, Levels, choose_cuts, levels_of
from asr.inference.transcription.recording import Reader, Recording
from asr.inference.transcription.segments import Segmenter
from asr.inference.transcription.windows import Grid, Pausing, emissions_of, windows
from asr.text.units import BLANK
from asr.text.units.characters import SPACE, Characters
from tests.support.tones import LETTERS, RATE, built, silence, tones

LENGTH, OVERLAP = 250, 100  # emissions of 20 ms
PAUSING = Pausing(0.12, 2.0)


@pytest.fixture(scope="module")
def model():
    return built(2, "full", 2 + len(LETTERS))


@pytest.fixture(scope="module")
def grid(model):
    return Grid.of(model)


def noise(seconds, decibels=-70.0, seed=0):
    return numpy.random.default_rng(seed).normal(0, 10 ** (decibels / 20), round(seconds * RATE))


def speech(seconds, seed=0, level=0.1):
    """Syllables of 0.2 s with dips of 0.05 s between them: no pauses."""
    time = numpy.arange(round(seconds * RATE)) / RATE
    loud = numpy.random.default_rng(seed).normal(0, level, len(time))
    return loud * numpy.where(time % 0.25 < 0.2, 1.0, 0.2)


def recording(parts):
    """(samples,) float32 of (seconds of speech, seconds of pause) in turn."""
    sounds = [sound for number, (said, pause) in enumerate(parts) for sound in (speech(said, number), silence(pause))]
    waveform = numpy.concatenate(sounds)
    return (waveform + noise(len(waveform) / RATE)[: len(waveform)]).astype(numpy.float32)


def cut(waveform, grid, pausing=PAUSING, block=16000, length=LENGTH, overlap=OVERLAP):
    blocks = (waveform[start : start + block] for start in range(0, len(waveform), block))
    return list(windows(blocks, grid, length, overlap, pausing))


def own(window, grid):
    """(first, end) emissions that are not its neighbours'."""
    return window.first + window.before, window.first + emissions_of(len(window.samples), grid) - window.after


def borders(found, grid):
    """Seconds at which windows begin."""
    return [own(window, grid)[0] * grid.stride / RATE for window in found]


PARTS = [(2.1, 0.4), (2.6, 0.3), (1.9, 0.5), (3.2, 0.4), (2.2, 0.3), (2.4, 0.4), (3.1, 0.4)]


def test_a_recording_is_cut_in_the_middle_of_its_pauses(grid):
    found = cut(recording(PARTS), grid)
    ends = numpy.cumsum([said + pause for said, pause in PARTS])
    middles = [end - pause / 2 for end, (_, pause) in zip(ends, PARTS[:-1])]
    for border in borders(found, grid)[1:]:
        assert min(abs(border - middle) for middle in middles) < 0.05
    assert len(found) >= 5 and all(window.closed for window in found)


@pytest.mark.parametrize("gain", [0.01, 3.0])
@pytest.mark.parametrize("hiss", [-70.0, -35.0])
def test_neither_the_gain_nor_steady_noise_far_below_speech_changes_where_it_is_cut(grid, gain, hiss):
    waveform = recording(PARTS)
    other = (gain * (waveform + noise(len(waveform) / RATE, hiss, 5)[: len(waveform)])).astype(numpy.float32)
    assert borders(cut(other, grid), grid) == pytest.approx(borders(cut(waveform, grid), grid), abs=0.1)


@pytest.mark.parametrize("waveform", [
    recording(PARTS * 3), recording([(14.0, 0.4), (3.0, 0.3), (11.0, 0.0)]), recording([(0.4, 0.2)] * 40),
    noise(21.3).astype(numpy.float32),
], ids=["pauses", "few pauses", "many pauses", "noise"])  # fmt: skip
def test_no_piece_is_longer_than_a_window_and_every_emission_is_taken_once(grid, waveform):
    found = cut(waveform, grid)
    assert all(len(window.samples) <= grid.samples(LENGTH + 1) for window in found)
    joiner, taken = Joiner(OVERLAP), []
    for window in found:
        count = emissions_of(len(window.samples), grid)
        assert count <= LENGTH
        first = window.first * grid.stride
        assert numpy.array_equal(window.samples, waveform[first : first + len(window.samples)])
        # the number of the emission stands in the place of its log-probability
        numbers = torch.arange(window.first, window.first + count)[:, None].float()
        taken += joiner.add(numbers[window.before : count - window.after], window.closed)[:, 0].tolist()
    assert taken == list(range(emissions_of(len(waveform), grid)))
    assert [window.last for window in found] == [False] * (len(found) - 1) + [True]
    assert found[-1].total == len(waveform)


def described(found):
    return [(w.first, len(w.samples), w.closed, w.last, w.before, w.after) for w in found]


@pytest.mark.parametrize("waveform", [
    noise(17.0, -20.0), numpy.zeros(17 * RATE), speech(17.0), numpy.sin(numpy.arange(17 * RATE) / 5) * 0.3, noise(3.0),
    speech(0.5),
], ids=["noise", "silence", "speech without pauses", "a tone", "shorter than a window", "short"])  # fmt: skip
def test_what_does_not_pause_is_cut_into_windows_that_overlap(grid, waveform):
    waveform = waveform.astype(numpy.float32)
    assert described(cut(waveform, grid)) == described(cut(waveform, grid, None))


def test_a_stretch_without_pauses_has_windows_that_overlap_and_pauses_are_used_again_behind_it(grid):
    found = cut(recording([*PARTS[:3], (14.0, 0.4), *PARTS]), grid)
    opened = [not window.closed for window in found]
    assert opened[:3] == [False] * 3 and 2 <= sum(opened) <= 6 and not any(opened[-3:])
    assert opened == sorted(opened[:5]) + opened[5:]


@pytest.mark.parametrize("block", [160, 777, 16000, 10**7])
def test_the_blocks_that_audio_comes_in_make_no_difference(grid, block):
    waveform = recording([*PARTS[:3], (14.0, 0.4), *PARTS, (1.0, 7.0), *PARTS])
    assert described(cut(waveform, grid, block=block)) == described(cut(waveform, grid, block=12345))


def test_nothing_is_skipped_where_that_is_turned_off(grid):
    waveform = recording([(2.5, 6.0), (2.5, 6.0)])
    for pausing in (Pausing(0.12), None):
        found = cut(waveform, grid, pausing)
        taken = set()
        for window in found:
            taken |= set(range(*own(window, grid)))
        assert taken == set(range(emissions_of(len(waveform), grid)))


def test_levels_in_blocks_are_levels_at_once():
    waveform, levels = recording(PARTS), Levels(400, 160, RATE)
    for start in range(0, len(waveform), 555):
        levels.add(waveform[start : start + 555])
    numpy.testing.assert_allclose(levels.between(0, 10**6), levels_of(waveform, 400, 160, RATE), atol=1e-4)
    assert len(levels.between(100, 300)) == 200 and levels.first == 100


@pytest.mark.parametrize(("before", "after"), [(0.2, 8.0), (40.0, 50.0)])
def test_of_long_pauses_only_the_ends_are_recognized(grid, before, after):
    """In the middle of the recording and at its end; a pause as long as a stretch too, once something was heard."""
    waveform = recording([(2.0, 0.3), (2.0, before), (3.0, 0.4), (2.5, after)])
    found = cut(waveform, grid)
    assert all(window.closed for window in found) and found[-1].last and found[-1].total == len(waveform)
    heard = sum(max(0, end - first) for first, end in (own(window, grid) for window in found)) * grid.stride / RATE
    assert heard < 9.5 + 0.3 + 0.4 + min(before, 1.2) + 1.2
    speaking = numpy.zeros(len(waveform), bool)
    for first, end in (own(window, grid) for window in found):
        speaking[max(0, first) * grid.stride : end * grid.stride] = True
    at = 0.0
    for said, pause in [(2.0, 0.3), (2.0, before), (3.0, 0.4), (2.5, after)]:
        assert speaking[round(at * RATE) : round((at + said) * RATE)].all()
        at += said + pause


def test_the_audio_ahead_is_three_windows_and_no_more_is_held(grid):
    given = []

    def blocks():
        for number in range(1000):
            given.append(number)
            yield speech(1.0, number).astype(numpy.float32)

    for number, window in enumerate(windows(blocks(), grid, LENGTH, OVERLAP, PAUSING)):
        begin = window.first * grid.stride / RATE
        assert len(given) <= begin + 3 * LENGTH * grid.stride / RATE + 2
        if number == 20:
            break


def test_pieces_read_like_the_whole(model, grid):
    waveform = tones("abba. cafe head. bag fade. beach. ace. deaf gag. hag. abba. cafe head. bag", around=0.3)
    with torch.inference_mode():
        whole, _ = model(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))
        joiner, parts = Joiner(OVERLAP), []
        for window in cut(waveform, grid):
            emissions, _ = model(torch.from_numpy(window.samples)[None], torch.tensor([len(window.samples)]))
            parts.append(joiner.add(emissions[0, window.before : emissions.shape[1] - window.after], window.closed))
    joined = torch.cat(parts)
    assert len(parts) > 2
    assert torch.equal(joined.argmax(-1), whole[0].argmax(-1))


def test_the_best_of_several_ways_to_cut_is_taken():
    """Long pauses rather than short ones, and neither very short nor over-long pieces; frames of 10 ms, pieces up to 10 s."""
    short, long = 0.15 * 4, 0.5 * 4
    cuts = [Cut(300, 7, short), Cut(420, 25, long), Cut(500, 7, short), Cut(900, 25, long), Cut(930, 25, long)]
    chosen = choose_cuts(cuts, 1300, 1000, True)
    assert [None if cut is None else cut.at for cut in chosen] == [420, 900, None]
    assert choose_cuts([], 5000, 1000, False) == [None]


def test_pieces_too_long_are_made_only_where_there_is_no_other_way():
    chosen = choose_cuts([Cut(990, 6, 0.0), Cut(1010, 6, 0.0)], 1100, 1000, True)
    assert [None if cut is None else cut.at for cut in chosen] == [990, None]
    gap = choose_cuts([Cut(500, 6, 0.0), Cut(1900, 6, 0.0)], 2500, 1000, True)
    assert [None if cut is None else cut.at for cut in gap] == [500, 1900, None]


def test_both_sides_of_a_cut_hear_the_pause_and_nothing_behind_it(grid):
    found = cut(recording(PARTS), grid)
    for left, right in zip(found, found[1:]):
        assert 5 <= left.after == right.before <= 10


def test_words_end_in_pauses_and_times_behind_a_pause_that_is_skipped_are_those_of_the_recording(model, grid):
    waveform = tones("abba. cafe. head bag", around=0.3)
    waveform = numpy.concatenate([waveform, silence(5.0), waveform]).astype(numpy.float32)
    units = Characters([BLANK, SPACE, *LETTERS])
    reader = Reader(units, model.topology, Greedy().bind(units), Timing.of(model), OVERLAP, 1500)
    heard = Recording("x", reader)
    with torch.inference_mode():
        for window in cut(waveform, grid):
            emissions, _ = model(torch.from_numpy(window.samples)[None], torch.tensor([len(window.samples)]))
            heard.add(emissions[0], window)
    transcript = heard.transcript(len(waveform) / RATE)
    items = transcript.items
    # 5 s and what is silent beside them, but half a second at either end
    assert 4.0 < transcript.skipped_seconds < 5.5
    half = len(items) // 2
    assert [item.text for item in items[:half]] == [item.text for item in items[half:]] and half >= 1
    apart = (len(waveform) / RATE - 5.0) / 2 + 5.0
    for left, right in zip(items[:half], items[half:]):
        assert right.start - left.start == pytest.approx(apart, abs=0.03)


def test_segments_end_where_pieces_do_and_keep_their_places():
    segmenter, found = Segmenter(30), []
    for size, closed in ((7, True), (5, False), (9, True), (0, True)):
        found += segmenter.add(torch.zeros(size, 4), closed)
    assert [(first, len(segment)) for first, segment in found] == [(0, 7), (7, 14)]
