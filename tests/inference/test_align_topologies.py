"""Forced alignment, joins and pauses of models without a blank."""

import itertools

import pytest
import torch

from asr.inference.alignment.by_topology import align_units
from asr.inference.alignment.forced import align
from asr.inference.transcription.joining import Joiner, choose_cut
from asr.inference.transcription.segments import choose_pause
from asr.model.topologies import topologies
from tests.support.tiny_phones import SILENCE, UNITS, durations, outputs_of

TOPOLOGIES = {"chain": {"name": "chain"}, "one": {"name": "one"}, "left": {"name": "chain", "context": "left"}}


def said(topology, *runs, sure=20.0):
    """Emissions of (unit, frames) one after the other, for topologies without contexts."""
    path = [output for unit, frames in runs for output in [2 * unit - 2, *[2 * unit - 1] * (frames - 1)]]
    return (sure * torch.nn.functional.one_hot(torch.tensor(path), topology.outputs).float()).log_softmax(-1)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_units_get_the_frames_of_the_best_path_with_silences_only_where_they_may_be(name):
    topology = topologies.create(TOPOLOGIES[name], units=UNITS)
    for seed in range(4):
        emissions = (2 * torch.randn(6, topology.outputs, generator=torch.Generator().manual_seed(seed))).log_softmax(
            -1
        )
        rows, best = emissions.tolist(), (-1e9, [])
        # silences before the first and the third unit, and at the end
        for first, third, last in itertools.product((0, 1), repeat=3):
            phones = [*[SILENCE] * first, 1, 2, *[SILENCE] * third, 2, *[SILENCE] * last]
            outputs = [outputs_of(name, left, phone) for left, phone in zip((0, *phones), phones)]
            for begins in durations(phones, 6):
                score = sum(
                    rows[frame][outputs[place][int(frame != begins[place])]]
                    for place in range(len(phones))
                    for frame in range(begins[place], begins[place + 1])
                )
                spans = [(p, *begins[k : k + 2]) for k, p in enumerate(phones) if p != SILENCE]
                best = max(best, (score, spans))
        found = align_units(emissions, [1, 2, 2], topology, SILENCE, {0, 2})
        # of one output a phone, where equal neighbours meet is any frame's guess
        if name != "one":
            assert [(span.unit, span.start, span.end) for span in found] == best[1]
        assert [span.unit for span in found] == [1, 2, 2] and all(0 < span.confidence <= 1 for span in found)


def test_with_a_blank_it_is_the_alignment_of_ctc():
    topology = topologies.create({"name": "ctc"}, units=UNITS)
    emissions = torch.randn(7, UNITS, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    assert align_units(emissions, [1, 1, 2], topology, SILENCE, {0}) == align(emissions, [1, 1, 2])


def test_a_confidence_is_the_probability_of_the_unit_whichever_output_says_it():
    topology = topologies.create({"name": "chain"}, units=UNITS)
    emissions = torch.full((2, topology.outputs), 0.05).log()
    emissions[0, :2] = torch.tensor([0.5, 0.3]).log()
    (span,) = align_units(emissions, [1], topology)
    assert (span.start, span.end) == (0, 2) and abs(span.confidence - 0.8) < 1e-6


def test_silence_that_is_a_unit_of_the_sequence_keeps_its_frames():
    topology = topologies.create({"name": "chain"}, units=UNITS)
    spans = align_units(said(topology, (1, 2), (SILENCE, 3), (2, 1)), [1, SILENCE, 2], topology)
    assert [(span.unit, span.start, span.end) for span in spans] == [(1, 0, 2), (SILENCE, 2, 5), (2, 5, 6)]


def test_too_few_emissions_and_what_is_not_a_number_are_refused():
    topology = topologies.create({"name": "chain"}, units=UNITS)
    assert align_units(torch.zeros(3, topology.outputs), [], topology) == []
    with pytest.raises(ValueError, match="do not fit"):
        align_units(torch.zeros(1, topology.outputs), [1, 2], topology)
    with pytest.raises(ValueError, match="not numbers"):
        align_units(torch.full((3, topology.outputs), torch.nan), [1], topology)


def test_windows_are_joined_and_recordings_cut_in_silence():
    topology = topologies.create({"name": "chain"}, units=UNITS)
    quiet = topology.quiet(SILENCE)
    emissions = said(topology, (1, 6), (SILENCE, 4), (2, 6))
    assert choose_cut(emissions, emissions, quiet) in range(6, 10)
    assert choose_pause(emissions, 2, quiet) == 8
    assert choose_pause(said(topology, (1, 6), (2, 4)), 2, quiet) in range(2, 10)
    joiner = Joiner(8, quiet)
    joined = torch.cat([joiner.add(emissions[:12], False), joiner.add(emissions[4:], True)])
    assert torch.equal(joined, emissions)
