"""Encoders: exact output lengths, and padding that changes nothing."""

import pytest
import torch

from asr.errors import UserError
from asr.model.attention import attention_at, attentions
from asr.model.encoders import encoders


def build(attention="full", **settings):
    torch.manual_seed(0)
    defaults = {"layers": 2, "heads": 2, "head_dim": 8, "feed_forward": 16, "dropout": 0.0}
    return encoders.create(
        {"name": "transformer", **defaults, **settings},
        input_dim=5,
        create_attention=lambda place: attention_at({"name": attention}, place),
    ).eval()


@pytest.mark.parametrize("front_end", ["stack", "convolution"])
@pytest.mark.parametrize("subsampling", [1, 2, 3, 4])
def test_output_lengths_are_exact_for_every_length(front_end, subsampling):
    encoder = build(front_end=front_end, subsampling=subsampling)
    for frames in range(1, 30):
        hidden, lengths = encoder(torch.randn(1, frames, 5), torch.tensor([frames]))
        assert hidden.shape == (1, encoder.output_lengths(frames), encoder.output_dim)
        assert lengths.tolist() == [encoder.output_lengths(frames)] == [-(-frames // subsampling)]


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("front_end", ["stack", "convolution"])
@pytest.mark.parametrize("subsampling", [1, 3, 4])
def test_padding_and_the_other_sequences_of_a_batch_change_nothing(front_end, subsampling, norm):
    encoder = build(front_end=front_end, subsampling=subsampling, norm=norm)
    features = torch.zeros(3, 41, 5)
    frames = [41, 17, 30]
    for row, length in enumerate(frames):
        features[row, :length] = torch.randn(length, 5)
    together, lengths = encoder(features, torch.tensor(frames))
    for row, length in enumerate(frames):
        alone, _ = encoder(features[row : row + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(together[row, : lengths[row]], alone[0], atol=1e-5, rtol=1e-5)


def test_shared_queries_and_keys_come_from_one_projection():
    shared, apart = build(shared_qk=True), build(shared_qk=False)
    assert shared.layers[0].attention.input_projection.out_features == 2 * 16
    assert apart.layers[0].attention.input_projection.out_features == 3 * 16


@pytest.mark.parametrize(
    "wrong",
    [{"subsampling": 5}, {"front_end": "stak"}, {"norm": "none"}, {"heads": 0}, {"dropout": 1.5}, {"hed_dim": 3}],
)
def test_a_wrong_setting_is_said_with_its_name(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        build(**wrong)


@pytest.mark.parametrize("attention", sorted(set(attentions.names()) - {"auto"}))
def test_activations_computed_again_give_the_same_loss_and_gradients(attention):
    shared = attentions.get(attention).shared_qk
    encoder = build(attention, shared_qk=shared, dropout=0.2).train()
    features, lengths = torch.randn(2, 40, 5), torch.tensor([40, 29])
    found = []
    for again in (False, True):
        encoder.checkpoint_activations = again
        encoder.zero_grad(set_to_none=True)
        computed = []
        handle = encoder.layers[1].feed_forward.register_forward_hook(lambda *_, computed=computed: computed.append(1))
        torch.manual_seed(1)
        hidden, _ = encoder(features, lengths)
        loss = hidden.square().mean()
        loss.backward()
        handle.remove()
        assert len(computed) == (2 if again else 1)
        found.append([loss.detach(), *(parameter.grad for parameter in encoder.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_activations_are_kept_where_there_is_no_gradient():
    encoder = build().eval()
    features, lengths = torch.randn(2, 40, 5), torch.tensor([40, 29])
    expected = encoder(features, lengths)[0]
    encoder.checkpoint_activations = True
    with torch.no_grad():
        assert torch.equal(encoder(features, lengths)[0], expected)


def test_rows_that_are_rounded_up_on_a_cpu_in_bfloat16_change_neither_outputs_nor_gradients():
    from asr.model.encoders.rows import in_rows

    linear, results = torch.nn.Linear(8, 5), []
    for rounded in (False, True):
        hidden = torch.randn(3, 7, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
        linear.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = in_rows(linear, hidden) if rounded else linear(hidden)
        out.float().square().sum().backward()
        results.append([out, hidden.grad, linear.weight.grad.clone(), linear.bias.grad.clone()])
    for plain, padded in zip(*results):
        torch.testing.assert_close(plain, padded, rtol=0.02, atol=0.02)
    assert in_rows(linear, hidden).dtype == torch.float32 and in_rows(linear, hidden).shape == (3, 7, 5)
