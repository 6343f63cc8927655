"""decoder=phones against every sentence and every duration; decoders that need a blank refuse models without one."""

import itertools
import math

import numpy as np
import pytest
import torch

from asr.errors import UserError
from asr.inference.decoders import decoders
from asr.model.topologies import topologies
from asr.text.phones.files import write_phone_lm
from asr.text.units import load_units
from asr.text.units.phonemes import Phonemes
from tests.support.tiny_phones import SHAPES, UNITS, durations, model, outputs_of

SYMBOLS = ["<blank>", "A", "B", "SIL"]
TOPOLOGIES = {
    "chain": {"name": "chain"}, "one": {"name": "one"}, "left": {"name": "chain", "context": "left"}, "ctc": {"name": "ctc"},
}  # fmt: skip


def topology_called(name):
    return topologies.create(TOPOLOGIES[name], units=UNITS)


def units_with(lm):
    units = Phonemes(SYMBOLS)
    units.phone_lm = lm
    return units


def paths_of(name, phones, frames):
    """(outputs of each frame, where each phone begins) of every way to say phones in so many frames."""
    if name == "ctc":
        for path in itertools.product(sorted({0, *phones}), repeat=frames):
            begins = [t for t in range(frames) if path[t] and (t == 0 or path[t] != path[t - 1])]
            if [path[t] for t in begins] == list(phones):
                yield path, begins
        return
    outputs = [outputs_of(name, left, phone) for left, phone in zip((0, *phones), phones)]
    for begins in durations(phones, frames):
        places = np.repeat(np.arange(len(phones)), np.diff(begins))
        yield [outputs[place][int(frame != begins[place])] for frame, place in enumerate(places)], list(begins[:-1])


@pytest.mark.parametrize("name", TOPOLOGIES)
@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[2]], ids=str)
def test_the_best_path_is_the_best_of_every_sentence_and_duration(name, shape):
    lm, topology = model(shape), topology_called(name)
    for frames, weight in ((1, 1.0), (3, 0.5), (4, 1.0)):
        decoder = decoders.create({"name": "phones", "lm_weight": weight}).bind_to(units_with(lm), topology)
        generator = torch.Generator().manual_seed(frames)
        emissions = (2 * torch.randn(1, frames + 1, topology.outputs, generator=generator)).log_softmax(-1)
        rows, best = emissions[0].tolist(), (-math.inf, (), [])
        for count in range(1, frames + 1):
            for phones in itertools.product(range(1, UNITS), repeat=count):
                said = lm.log_probability(phones)
                for path, begins in paths_of(name, phones, frames) if said > -math.inf else ():
                    best = max(best, (weight * said + sum(row[unit] for row, unit in zip(rows, path)), phones, begins))
        (found,) = decoder(emissions, torch.tensor([frames]))[0]
        assert abs(found.score - best[0]) < 1e-5
        assert (tuple(found.ids), found.frames) == best[1:]


def test_what_is_too_short_for_a_sentence_still_has_a_hypothesis():
    lm, topology = model(sentences=[[((1.0, (1, 2, 1)),)]]), topology_called("chain")
    decoder = decoders.create({"name": "phones"}).bind_to(units_with(lm), topology)
    hypotheses = decoder(torch.zeros(2, 2, topology.outputs), torch.tensor([2, 0]))
    assert [one[0].ids for one in hypotheses] in ([[1], []], [[1, 2], []])


def test_silences_are_found():
    decoder = decoders.create({"name": "phones"}).bind_to(units_with(model()), topology_called("chain"))
    # first frames of SIL, A, B, SIL
    emissions = torch.full((1, 4, 6), -20.0)
    emissions[0, range(4), [4, 0, 2, 4]] = 0.0
    (found,) = decoder(emissions, torch.tensor([4]))[0]
    assert found.ids == [3, 1, 2, 3] and found.frames == [0, 1, 2, 3]


@pytest.mark.parametrize("name", [name for name in decoders.names() if decoders.get(name).needs_blank])
def test_decoders_that_need_a_blank_refuse_a_model_without_one(name):
    with pytest.raises(UserError, match=f"decoder={name} needs the blank of CTC.*use decoder=phones"):
        decoders.create({"name": name}).bind_to(Phonemes(SYMBOLS), topology_called("chain"))


def test_a_language_model_comes_from_the_units_or_a_file_or_is_asked_for(tmp_path):
    ctc, lm = topology_called("ctc"), model()
    with pytest.raises(UserError, match="needs a phone language model"):
        decoders.create({"name": "phones"}).bind(Phonemes(SYMBOLS))
    write_phone_lm(tmp_path / "phone_lm.txt", lm, SYMBOLS)
    by_file = decoders.create({"name": "phones", "lm": str(tmp_path / "phone_lm.txt")}).bind_to(Phonemes(SYMBOLS), ctc)
    by_units = decoders.create({"name": "phones"}).bind_to(units_with(lm), ctc)
    emissions = torch.randn(2, 6, UNITS).log_softmax(-1)
    assert by_file(emissions, torch.tensor([6, 4])) == by_units(emissions, torch.tensor([6, 4]))
    assert by_units.facts["graph_states"] == by_file.facts["graph_states"] > 0


def test_the_language_model_is_saved_with_the_units_and_no_other_takes_its_place(tmp_path):
    units_with(model()).save(tmp_path)
    loaded = load_units(tmp_path)
    assert loaded.phone_lm.histories == model().histories and loaded.symbols == SYMBOLS
    write_phone_lm(tmp_path / "phone_lm.txt", model(SHAPES[0]), SYMBOLS)
    with pytest.raises(UserError, match="of another model"):
        load_units(tmp_path)
    (tmp_path / "phone_lm.txt").unlink()
    with pytest.raises(UserError, match="phone_lm.txt cannot be read"):
        load_units(tmp_path)
