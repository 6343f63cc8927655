"""The forward-backward recursion over one graph for all utterances, in the scaled probability domain (LF-MMI's denominator)."""

from __future__ import annotations

import torch
from torch import Tensor

from asr.kernels.dispatch import step
from asr.kernels.shared_graph import FLOOR, Denominator


def triton_version():
    """The module of the same function as Triton kernels."""
    import asr.kernels.gpu.denominator

    return asr.kernels.gpu.denominator


@step(triton=triton_version)
def denominator_posteriors(
    emissions: Tensor, lengths: Tensor, graph: Denominator, posteriors: bool = True
) -> tuple[Tensor, Tensor | None]:
    """The logarithm of the weight of all paths of each utterance, and what each output of each frame takes part in it.

    emissions: (batch, time, outputs), logarithms, of the graph's dtype. lengths: (batch,) int64 valid frames. Results as those of
    `numerator_posteriors`. In float32 the leak must be above 0, or states that come too late have vanished.
    """
    top = emissions.amax(2)
    likely = (emissions - top[..., None]).clamp_min(FLOOR).exp().permute(1, 2, 0).contiguous()
    live = (torch.arange(emissions.shape[1], device=lengths.device)[:, None] < lengths)[:, None]
    alphas, scales = forwards(likely, live, graph, int(lengths.min()))
    last = (alphas[-1] * graph.final).sum(0)
    total = last.log() + (scales.log() * live[:, 0]).sum(0) + (top * live[:, 0].t()).sum(1)
    total = torch.where(lengths > 0, total, 0.0)
    if not posteriors:
        return total, None
    outputs = backwards(likely, live, graph, int(lengths.min()), alphas, scales, last)
    return total, outputs.permute(2, 0, 1).contiguous()


def forwards(likely: Tensor, live: Tensor, graph: Denominator, short: int) -> tuple[Tensor, Tensor]:
    """(alphas (time, states, batch) that sum to 1 before the leak, the sums (time, batch) that they were divided by).

    likely: (time, outputs, batch) emissions as probabilities. live: (time, 1, batch). short: frames that all utterances have.
    Behind an utterance's end alphas stay as they are and the sum is 1.
    """
    time, _, batch = likely.shape
    alphas, scales = likely.new_empty(time, len(graph.first), batch), likely.new_ones(time, batch)
    leaked, alpha = graph.leak * graph.prior, graph.start.expand(-1, batch)
    for frame in range(time):
        entering = likely[frame].index_select(0, graph.first)
        if frame == 0:
            new = alpha * entering
        else:
            new = (graph.arriving @ alpha) * entering
            new = torch.addcmul(new, alpha, likely[frame].index_select(0, graph.loop))
        scale = new.sum(0)
        new = torch.add(leaked, new / scale) if graph.leak else new / scale
        if frame < short:
            alpha, scales[frame] = new, scale
        else:
            alpha, scales[frame] = torch.where(live[frame], new, alpha), torch.where(live[frame, 0], scale, 1.0)
        alphas[frame] = alpha
    return alphas, scales


def backwards(likely, live, graph: Denominator, short: int, alphas: Tensor, scales: Tensor, last: Tensor) -> Tensor:
    """(time, outputs, batch) posteriors. beta: the derivative of the logarithm of the total with respect to alpha."""
    leaked, posteriors = graph.leak * graph.prior, torch.empty_like(likely)
    beta = graph.final / last
    for frame in reversed(range(len(likely))):
        # through the leak: alpha = new / scale + leak · prior, where scale is the sum of new
        whole = beta + (beta * leaked).sum(0) if graph.leak else beta
        occupied = (alphas[frame] - leaked) * whole if graph.leak else alphas[frame] * whole
        if frame:
            whole = whole / scales[frame]
            again = whole * likely[frame].index_select(0, graph.loop)
            stayed = again * alphas[frame - 1]
            new = graph.leaving @ (whole * likely[frame].index_select(0, graph.first)) + again
            beta = new if frame < short else torch.where(live[frame], new, beta)
            occupied = (occupied - stayed).clamp_min(0)
            posteriors[frame] = graph.entered @ occupied + graph.stayed @ stayed
        else:
            posteriors[frame] = graph.entered @ occupied
        if frame >= short:
            posteriors[frame] *= live[frame]
    return posteriors
