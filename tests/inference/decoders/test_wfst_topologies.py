"""decoder=wfst on models without a blank, against every sentence, every silence and every duration."""

import itertools
import math

import pytest
import torch

from asr.inference.decoders import decoders
from asr.inference.decoders.spellings import spell
from asr.model.topologies import topologies
from tests.support.tiny_language import phonemes
from tests.support.tiny_phones import UNITS, durations, outputs_of

pytest.importorskip("kaldifst")
pytest.importorskip("kaldi_decoder")
LEXICON = "aa A A\nab A B\nb B\n"
SPELLINGS = {"aa": (1, 1), "ab": (1, 2), "b": (2,)}
SILENCE = 3
TOPOLOGIES = {"chain": {"name": "chain"}, "one": {"name": "one"}, "left": {"name": "chain", "context": "left"}}


def sentences(frames):
    """(words, phones) of every sentence that fits, with every number of silences around words."""
    for count in range(frames + 1):
        for words in itertools.product(SPELLINGS, repeat=count):
            for silences in itertools.product(range(frames + 1 - count), repeat=count + 1):
                phones = [SILENCE] * silences[0]
                for word, number in zip(words, silences[1:]):
                    phones += [*SPELLINGS[word], *[SILENCE] * number]
                if 1 <= len(phones) <= frames:
                    yield words, phones


def best_by_trying(emissions, name):
    """(score, words, where phones begin)."""
    rows, best = emissions.tolist(), (-math.inf, (), ())
    for words, phones in sentences(len(rows)):
        outputs = [outputs_of(name, left, phone) for left, phone in zip((0, *phones), phones)]
        for begins in durations(phones, len(rows)):
            score = sum(
                rows[frame][outputs[place][int(frame != begins[place])]]
                for place in range(len(phones))
                for frame in range(begins[place], begins[place + 1])
            )
            best = max(best, (score, words, begins[:-1]))
    return best


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_the_best_words_are_those_of_every_sentence_silence_and_duration(name, tmp_path):
    units, topology = phonemes(LEXICON, silence=True), topologies.create(TOPOLOGIES[name], units=UNITS)
    assert spell(units, None, "auto", "skip").words.keys() == SPELLINGS.keys()
    settings = {"name": "wfst", "beam": 200.0, "out_of_vocabulary": "skip", "cache": str(tmp_path)}
    decoder = decoders.create(settings).bind_to(units, topology)
    for seed, frames in ((0, 2), (1, 4), (2, 5), (3, 5)):
        emissions = (
            2 * torch.randn(1, frames, topology.outputs, generator=torch.Generator().manual_seed(seed))
        ).log_softmax(-1)
        (found,) = decoder.with_confidences()(emissions, torch.tensor([frames]))[0]
        score, words, begins = best_by_trying(emissions[0], name)
        assert abs(found.score - score) < 1e-4 and abs(found.acoustic_score - score) < 1e-4
        # with one output a phone, `ab b` and a long `ab` are the same frames
        assert name == "one" or (tuple(found.transcript), tuple(found.frames)) == (words, begins)
        assert all(0 <= word.start < word.end <= frames and 0 <= word.confidence <= 1 for word in found.words)


def test_silence_scores_count_for_all_outputs_of_silence(tmp_path):
    units, topology = phonemes(LEXICON, silence=True), topologies.create({"name": "chain"}, units=UNITS)
    settings = {"name": "wfst", "out_of_vocabulary": "skip", "cache": str(tmp_path)}
    emissions = torch.zeros(1, 4, topology.outputs).log_softmax(-1)
    loud, quiet = (
        decoders.create({**settings, "silence_score": score}).bind_to(units, topology)(emissions, torch.tensor([4]))[0][
            0
        ]
        for score in (-9.0, 9.0)
    )
    assert SILENCE not in loud.ids and quiet.ids == [SILENCE] and quiet.words == []
    assert abs(quiet.score - (quiet.acoustic_score + 4 * 9)) < 1e-4 and abs(quiet.language_model_score) < 1e-4
