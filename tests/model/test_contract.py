"""What encoders, heads, and models of all three kinds of parts promise, asked of each one that the registries list."""

from __future__ import annotations

import inspect

import pytest
import torch

from asr.config.settings import compose
from asr.errors import UserError
from asr.model.attention import Place, attention_at, attentions
from asr.model.encoders import Encoder, encoders
from asr.model.folder import load_model, save_model
from asr.model.heads import Head, heads
from asr.model.losses import losses
from asr.model.network import Model
from asr.text.units import units
from asr.training.job import describe

SMALL = {
    "layers": 2,
    "heads": 2,
    "head_dim": 8,
    "feed_forward": 16,
    "dropout": 0.0,
    "subsampling": 3,
    "output_subsampling": 2,
    "shared_qk": True,
}
FRAMES = [41, 17, 30]
DIM, UNITS = 12, 7

every_encoder = pytest.mark.parametrize("name", encoders.names())
every_head = pytest.mark.parametrize("name", heads.names())


def settings_of(name):
    accepted = inspect.signature(encoders.get(name)).parameters
    return {"name": name, **{key: value for key, value in SMALL.items() if key in accepted}}


def encoder_of(name, seed=0, **settings):
    torch.manual_seed(seed)
    return encoders.create(
        {**settings_of(name), **settings},
        input_dim=5,
        create_attention=lambda place: attention_at({"name": "full"}, place),
    )


def head_of(name, seed=0):
    torch.manual_seed(seed)
    return heads.create({"name": name}, dim=DIM, units=UNITS)


def features_of(frames):
    features = torch.zeros(len(frames), max(frames), 5)
    for row, length in enumerate(frames):
        features[row, :length] = torch.randn(length, 5, generator=torch.Generator().manual_seed(row))
    return features, torch.tensor(frames)


def batch_of(lengths=(20, 9, 14)):
    """Hidden states with noise in their padding, lengths, labels and their lengths."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(len(lengths), max(lengths), DIM, generator=generator)
    targets = torch.randint(1, UNITS, (len(lengths), 4), generator=generator)
    return hidden, torch.tensor(lengths), targets, torch.tensor([4, 2, 3])


def assert_gradients_reach(module):
    dead = [
        name
        for name, weight in module.named_parameters()
        if weight.grad is None or not bool(weight.grad.abs().sum() > 0)
    ]
    assert not dead


@every_encoder
def test_an_encoder_says_what_others_ask_of_it(name):
    encoder = encoder_of(name)
    assert isinstance(encoder, Encoder) and isinstance(encoder.layers, torch.nn.ModuleList)
    assert isinstance(encoder.subsampling, int) and isinstance(encoder.shared_qk, bool)
    assert 0 <= encoder.centre < encoder.subsampling and encoder.values_per_state() > 0
    assert encoder.frames_per_output == encoder.subsampling * encoder.output_subsampling
    assert encoders.get(name).settled({"name": name, "shared_qk": "auto"}, True)["shared_qk"] is True


@every_encoder
def test_the_output_lengths_of_an_encoder_are_exact(name):
    encoder = encoder_of(name).eval()
    for frames in range(1, 20):
        hidden, lengths = encoder(*features_of([frames]))
        assert hidden.shape == (1, encoder.output_lengths(frames), encoder.output_dim)
        assert lengths.tolist() == encoder.output_lengths(torch.tensor([frames])).tolist() == [hidden.shape[1]]


@every_encoder
def test_an_encoder_gives_every_hidden_state_or_every_nth_one(name):
    frames = torch.tensor(FRAMES)
    whole = encoder_of(name, output_subsampling=1).eval()
    settings = settings_of(name)
    settings.pop("output_subsampling")  # as in older checkpoints
    assert (
        encoders.create(
            settings, input_dim=5, create_attention=lambda place: attention_at({"name": "full"}, place)
        ).output_subsampling
        == 1
    )
    states, lengths = whole.states(*features_of(FRAMES))
    assert torch.equal(whole(*features_of(FRAMES))[0], states) and whole.frames_per_output == whole.subsampling
    assert lengths.tolist() == whole.state_lengths(frames).tolist() == whole.output_lengths(frames).tolist()
    for every in (2, 3, 100):
        encoder = encoder_of(name, output_subsampling=every).eval()
        hidden, outputs = encoder(*features_of(FRAMES))
        assert torch.equal(hidden, states[:, ::every])
        assert outputs.tolist() == [len(range(0, length, every)) for length in lengths.tolist()]
    for wrong in (0, 1.5, "2"):
        with pytest.raises(UserError, match="encoder.output_subsampling takes a whole number of 1 or more"):
            encoder_of(name, output_subsampling=wrong)


@every_encoder
def test_padding_and_the_rest_of_the_batch_change_no_hidden_state(name):
    encoder = encoder_of(name).eval()
    together, lengths = encoder(*features_of(FRAMES))
    for row, frames in enumerate(FRAMES):
        alone, _ = encoder(features_of(FRAMES)[0][row : row + 1, :frames], torch.tensor([frames]))
        torch.testing.assert_close(together[row, : lengths[row]], alone[0], atol=1e-5, rtol=1e-5)


@every_encoder
def test_gradients_reach_every_weight_of_an_encoder_and_are_the_same_when_activations_are_computed_again(name):
    found = []
    for again in (False, True):
        encoder = encoder_of(name).train()
        encoder.checkpoint_activations = again
        hidden, _ = encoder(*features_of(FRAMES))
        (hidden * torch.linspace(-1, 1, hidden.shape[-1])).square().sum().backward()
        found.append([hidden, *(weight.grad for weight in encoder.parameters() if weight.grad is not None)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    # a bias of keys moves all scores of a query alike, so that its gradient may be rounding alone, but is there
    assert_gradients_reach(encoder)


@every_encoder
def test_the_weights_of_an_encoder_make_a_round_trip(name):
    one, other = encoder_of(name).eval(), encoder_of(name, seed=1).eval()
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(*features_of(FRAMES))[0], other(*features_of(FRAMES))[0])


@every_head
def test_padding_and_the_rest_of_the_batch_change_no_loss(name):
    head = head_of(name).eval()
    hidden, lengths, targets, target_lengths = batch_of()
    together = head(hidden, lengths, targets, target_lengths)
    assert isinstance(head, Head) and together.shape == (3,) and together.dtype == torch.float32
    for row, (length, labels) in enumerate(zip(lengths.tolist(), target_lengths.tolist())):
        alone = head(
            hidden[row : row + 1, :length], lengths[row : row + 1], targets[row : row + 1, :labels], target_lengths[row : row + 1]
        )  # fmt: skip
        torch.testing.assert_close(together[row], alone[0])


@every_head
def test_gradients_reach_every_weight_of_a_head_and_its_weights_make_a_round_trip(name):
    head, other = head_of(name), head_of(name, seed=1)
    head(*batch_of()).sum().backward()
    assert_gradients_reach(head)
    other.load_state_dict(head.state_dict())
    assert torch.equal(head(*batch_of()), other(*batch_of()))


@every_head
def test_required_frames_are_the_fewest_with_which_the_loss_of_a_head_is_finite(name):
    head = head_of(name)
    for labels in ([], [1], [1, 2], [1, 1], [3, 3, 3, 2]):
        fewest = head.required_frames(labels)
        for frames in range(1, min(fewest, 9) + 3):
            loss = head(
                torch.zeros(1, frames, DIM), torch.tensor([frames]), torch.tensor([labels + [1]]), torch.tensor([len(labels)])
            )  # fmt: skip
            assert bool(loss.isfinite()) == (frames >= fewest)


@every_head
def test_a_head_gives_log_probabilities_or_refuses_in_a_sentence(name):
    head = head_of(name)
    if type(head).emissions is Head.emissions:
        with pytest.raises(UserError, match=f"head={name} gives no emissions.* use a head that does"):
            head.emissions(batch_of()[0])
        return
    emissions = head.emissions(batch_of()[0])
    outputs = head.topology.outputs if hasattr(head, "topology") else UNITS
    assert emissions.shape == (3, 20, outputs) and emissions.dtype == torch.float32
    torch.testing.assert_close(emissions.exp().sum(-1), torch.ones(3, 20))


def test_a_head_without_emissions_refuses_those_who_want_them():
    class Silent(Head):
        name = "silent"

        def forward(self, hidden, lengths, targets, target_lengths):
            return hidden.sum((1, 2))

        def required_frames(self, labels):
            return 1

    with pytest.raises(UserError, match="head=silent gives no emissions"):
        Silent().emissions(torch.zeros(1, 2, 3))


def test_training_refuses_a_head_without_emissions_before_it_prepares_a_corpus(monkeypatch):
    monkeypatch.setattr(heads.get("ctc"), "emissions", Head.emissions)
    with pytest.raises(
        UserError, match="head=ctc gives no emissions, which scoring dev in training.* use a head that does"
    ):
        describe(compose("train", []))


def model_of(encoder="transformer", head="ctc", attention="full"):
    built = units.get("phonemes").build([])
    torch.manual_seed(0)
    features = {"mels": 10, "sample_rate": 16000}
    description = {
        "features": features, "encoder": settings_of(encoder), "attention": {"name": attention}, "head": {"name": head},
        "units": len(built.symbols),
    }  # fmt: skip
    return Model(description).eval(), built


SETS = [
    *({"encoder": name} for name in encoders.names()),
    *({"head": name} for name in heads.names()),
    *({"attention": name} for name in attentions.names()),
]


@pytest.mark.parametrize("parts", SETS, ids=lambda parts: "-".join(parts.values()))
def test_a_saved_model_comes_back_with_its_description_and_weights(tmp_path, parts):
    model, built = model_of(**parts)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    save_model(tmp_path / "model", model, built, {})
    loaded, _, _ = load_model(tmp_path / "model")
    assert loaded.description == model.description and loaded.attention_label() == model.attention_label()
    waveforms, samples = torch.randn(2, 8000), torch.tensor([8000, 5000])
    assert torch.equal(loaded.encode(waveforms, samples)[0], model.encode(waveforms, samples)[0])
    own = dict(model.head.named_parameters())
    assert all(torch.equal(weight, own[name]) for name, weight in loaded.head.named_parameters())


def test_a_description_from_before_there_were_heads_is_read_as_ctc(tmp_path):
    model, built = model_of()
    model.description.pop("head")
    save_model(tmp_path / "model", model, built, {})
    loaded, _, _ = load_model(tmp_path / "model")
    assert loaded.description["head"] == {"name": "ctc", "loss": {"name": "ctc"}}
    assert torch.equal(loaded.head.weight, model.head.weight)


def test_a_loss_with_weights_is_trained_and_belongs_to_the_model():
    class Weighted(losses.get("ctc")):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, *arguments):
            return self.scale * super().forward(*arguments)

    model, _ = model_of()
    model.head.loss = Weighted()
    hidden, lengths = model.encode(torch.randn(1, 8000), torch.tensor([8000]))
    model.head(hidden, lengths, torch.tensor([[1, 2]]), torch.tensor([2])).sum().backward()
    assert model.head.loss.scale.grad > 0
    assert "head.loss.scale" in model.state_dict() and "head.loss.scale" in dict(model.named_parameters())


@pytest.mark.parametrize("attention", attentions.names())
def test_a_model_scored_under_the_attention_that_it_was_trained_with_is_itself_to_the_bit(attention):
    model, _ = model_of(attention=attention)
    waveforms, samples = torch.randn(2, 8000), torch.tensor([8000, 5000])
    again = model.with_attention({"name": attention})
    assert again is not model and torch.equal(again(waveforms, samples)[0], model(waveforms, samples)[0])


def test_weights_that_another_attention_lacks_or_leaves_unused_are_said(monkeypatch, caplog):
    class Scaled(attentions.get("full")):
        name = "scaled"

        def __init__(self, *, place: Place, seed: int = 0):
            super().__init__(seed)
            self.scale = torch.nn.Parameter(torch.full((place.heads, place.head_dim), 0.5))

        def attend(self, queries, *others):
            return super().attend(queries * self.scale[:, None], *others)

    known = type(attentions).get
    monkeypatch.setattr(
        type(attentions), "get", lambda self, name: Scaled if name == "scaled" else known(self, name), raising=True
    )
    plain, (scaled, _) = model_of()[0], model_of(attention="scaled")
    assert scaled.attention_weights() == {f"encoder.layers.{layer}.attention.attention.scale" for layer in (0, 1)}
    with pytest.raises(UserError, match=r"attention=scaled has weights of its own .*attention\.scale.*Train with"):
        plain.with_attention({"name": "scaled"})
    with pytest.raises(UserError, match="weights of its own"):
        plain.refuse_attention({"name": "scaled"})
    under_full = scaled.with_attention({"name": "full"})
    assert "attention=full leaves 2 trained weights of attention=scaled unused" in caplog.text
    assert torch.equal(under_full.head.weight, scaled.head.weight)
    again = scaled.with_attention({"name": "scaled"}).state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in scaled.state_dict().items())
