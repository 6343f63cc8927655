"""The forward-backward recursion over a graph of each utterance, in the logarithmic domain (LF-MMI's numerators)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NEVER = -torch.inf
# what the best of a row counts as that has no path at all: finite, so that nothing is inf - inf
LEAST = -1e30


class Numerators(NamedTuple):
    """The graphs of a batch, padded; see `asr.model.graphs.graph`. Weights are natural logarithms, -inf in the padding.

    first, loop: (batch, states) int64 outputs. start, final: (batch, states) float64.
    sources: (batch, in-degree, states) int64 states that an arc comes from; into: its weight, float64.
    targets: (batch, out-degree, states) int64 states that an arc leads to; out_of: its weight, float64.
    """

    first: Tensor
    loop: Tensor
    start: Tensor
    final: Tensor
    sources: Tensor
    into: Tensor
    targets: Tensor
    out_of: Tensor


def numerator_posteriors(
    emissions: Tensor, lengths: Tensor, graphs: Numerators, posteriors: bool = True
) -> tuple[Tensor, Tensor | None]:
    """The logarithm of the weight of all paths through each graph, and what each output of each frame takes part in it.

    emissions: (batch, time, outputs), logarithms. lengths: (batch,) int64 valid frames. Both results have the emissions'
    dtype: (batch,), -inf without a path, and (batch, time, outputs), which is the gradient of the former: it sums to 1 in every
    valid frame, and is 0 in the others and where there is no path.

    Computed in float64, which costs a fifth more: a path may be far behind the best at a frame and win in the end, and float32
    then misses posteriors by up to 0.01. Nothing is scattered on a GPU, so that two runs agree to the bit.
    """
    batch, time, _ = emissions.shape
    shape = (batch, time, graphs.first.shape[1])
    exact = emissions.double()
    entering = exact.gather(2, graphs.first[:, None].expand(shape)).transpose(0, 1).contiguous()
    staying = exact.gather(2, graphs.loop[:, None].expand(shape)).transpose(0, 1).contiguous()
    live = (torch.arange(time, device=lengths.device)[:, None] < lengths)[..., None]
    short = int(lengths.min())
    alphas = forwards(entering, staying, live, graphs, short)
    total = torch.where(lengths > 0, (alphas[-1] + graphs.final).logsumexp(1), NEVER)
    if not posteriors:
        return total.to(emissions.dtype), None
    betas = backwards(entering, staying, live, graphs, short)
    whole = total.clamp_min(LEAST)[:, None]
    staying[1:] += alphas[:-1] + betas[1:] - whole
    staying[0] = NEVER
    stayed = staying.exp_().where(live, 0.0)
    entered = (alphas.add_(betas).sub_(whole).exp_().where(live, 0.0) - stayed).clamp_min_(0)
    occupied = to_outputs(entered, graphs.first, exact) + to_outputs(stayed, graphs.loop, exact)
    return total.to(emissions.dtype), occupied.to(emissions.dtype)


def forwards(entering: Tensor, staying: Tensor, live: Tensor, graphs: Numerators, short: int) -> Tensor:
    """Alphas (time, batch, states). short: frames that all utterances have; behind an utterance's end its alphas stay."""
    alphas = torch.empty_like(entering)
    alphas[0] = alpha = graphs.start + entering[0]
    step = Summing(graphs.sources, graphs.into)
    for frame in range(1, len(entering)):
        new = step(alpha, entering[frame], alpha + staying[frame])
        alphas[frame] = alpha = new if frame < short else torch.where(live[frame], new, alpha)
    return alphas


def backwards(entering: Tensor, staying: Tensor, live: Tensor, graphs: Numerators, short: int) -> Tensor:
    """Betas (time, batch, states)."""
    betas = torch.empty_like(entering)
    betas[-1] = beta = graphs.final
    step = Summing(graphs.targets, graphs.out_of)
    for frame in reversed(range(1, len(entering))):
        new = step(beta + entering[frame], None, beta + staying[frame])
        betas[frame - 1] = beta = new if frame < short else torch.where(live[frame], new, beta)
    return betas


class Summing:
    """A step of either recursion: the logarithm of the sum over the arcs of each state and its self-loop.

    others, weights: (batch, degree, states).
    """

    def __init__(self, others: Tensor, weights: Tensor):
        batch, self.degree, states = others.shape
        self.others, self.weights = others.flatten(1), weights
        self.terms = weights.new_empty(batch, self.degree + 1, states)

    def __call__(self, scores: Tensor, emissions: Tensor | None, staying: Tensor) -> Tensor:
        """scores: (batch, states) of the others. emissions: added to what comes by arcs, if any. staying: by the self-loop."""
        arcs = self.terms[:, : self.degree]
        torch.add(scores.gather(1, self.others).view_as(self.weights), self.weights, out=arcs)
        if emissions is not None:
            arcs += emissions[:, None]
        self.terms[:, self.degree] = staying
        top = self.terms.amax(1).clamp_min_(LEAST)
        return self.terms.sub_(top[:, None]).exp_().sum(1).log_().add_(top)


def to_outputs(posteriors: Tensor, outputs: Tensor, like: Tensor) -> Tensor:
    """Sums posteriors (time, batch, states) of states with the same output: (batch, time, outputs)."""
    posteriors = posteriors.transpose(0, 1)
    if like.device.type == "cpu":
        return torch.zeros_like(like).scatter_add_(2, outputs[:, None].expand_as(posteriors), posteriors)
    chosen = torch.nn.functional.one_hot(outputs, like.shape[2]).to(like.dtype)
    return posteriors @ chosen
