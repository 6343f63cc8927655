"""Beam search on a GPU, by torchaudio's `cuda_ctc_decoder`, beside the one on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import ctc_loss

from asr.inference.decoders import decoders
from asr.text.units import units as kinds

pytest.importorskip("flashlight.lib.text.decoder", reason="flashlight-text is not installed")
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@pytest.fixture(scope="module")
def letters():
    from lhotse import SupervisionSegment

    return kinds.get("characters").build(
        [SupervisionSegment("s", "r", 0.0, 1.0, text="the quick brown fox jumps over it")]
    )


def noisy(letters, lengths, seed=1):
    """Log-probabilities (batch, time, units) where one unit of every frame stands out; what lies behind an utterance is NaN."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths), len(letters.symbols))
    scores = torch.randn(shape, generator=generator)
    loudest = torch.randint(0, shape[2], shape[:2], generator=generator)
    scores.scatter_add_(2, loudest[..., None], torch.full((*shape[:2], 1), 6.0))
    emissions = scores.log_softmax(-1)
    for row, length in enumerate(lengths):
        emissions[row, length:] = float("nan")
    return emissions, torch.tensor(lengths)


@on_a_gpu
def test_it_finds_what_the_cpu_finds_and_its_score_is_the_sum_over_alignments(letters):
    emissions, lengths = noisy(letters, [50, 17, 0, 1])
    search = decoders.create({"name": "beam", "beam_size": len(letters.symbols)}).bind(letters)
    there, here = search(emissions.cuda(), lengths), search(emissions, lengths)
    assert [best.ids for best, *_ in there] == [best.ids for best, *_ in here]
    for row, (best, *_) in enumerate(there):
        if not lengths[row]:
            assert best.ids == [] and best.score == 0.0
            continue
        ids = torch.tensor(best.ids)
        total = -ctc_loss(emissions[row, : lengths[row]], ids, lengths[row], torch.tensor(len(ids)), reduction="sum")
        assert best.score == pytest.approx(float(total), abs=0.05)
        assert len(best.frames) == len(best.ids) and best.frames == sorted(best.frames)


@on_a_gpu
@pytest.mark.parametrize("nbest", [3, 1000])
def test_the_best_hypotheses_differ_and_come_in_order(letters, nbest):
    emissions, lengths = noisy(letters, [40, 25])
    search = decoders.create({"name": "beam", "beam_size": 2000, "nbest": nbest}).bind(letters)
    for found in search(emissions.cuda(), lengths):
        assert len(found) == min(nbest, len(letters.symbols))
        assert len({tuple(one.ids) for one in found}) == len(found)
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


@on_a_gpu
def test_values_that_are_no_numbers_are_refused(letters):
    emissions, lengths = noisy(letters, [10, 10])
    emissions[1, 4] = float("nan")
    with pytest.raises(ValueError, match="utterance 1"):
        decoders.create({"name": "beam"}).bind(letters)(emissions.cuda(), lengths)


def test_where_torchaudio_has_no_search_for_gpus_the_cpu_searches_and_that_is_said_once(letters, monkeypatch):
    from torchaudio.models import decoder as torchaudio_decoder

    def missing(name):
        raise RuntimeError("To use CUCTC decoder, please set BUILD_CUDA_CTC_DECODER=1")

    monkeypatch.delitem(vars(torchaudio_decoder), "cuda_ctc_decoder", raising=False)
    monkeypatch.setattr(torchaudio_decoder, "__getattr__", missing)
    search = decoders.create({"name": "beam"}).bind(letters)
    with pytest.warns(UserWarning, match="the CPU does: To use CUCTC"):
        assert not search._has_gpu_search()
    assert search.gpu is False
