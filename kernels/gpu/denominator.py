"""LF-MMI's denominator: the whole recursion of an utterance in one program, its arcs sorted by the state that they add to."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from asr.kernels.gpu.common import OF_LENGTH
from asr.kernels.gpu.launch import LARGEST_OFFSET, launch
from asr.kernels.shared_graph import FLOOR, SLICE, Arcs, Denominator

WARPS = 16
OF_GRAPH = [*OF_LENGTH, "outputs", "states", "slices"]


@triton.jit
def arrivals(slots, sources, weights, starts, degrees, values, number, SLICE: tl.constexpr):
    """(states of a slice, -1 behind the last; of each the sum over its arcs of weight × value of the arc's other state)."""
    lane = tl.arange(0, SLICE)
    state = tl.load(slots + number * SLICE + lane)
    total = tl.zeros([SLICE], tl.float32)
    first = tl.load(starts + number) + lane
    for arc in range(tl.load(degrees + number)):
        other = tl.load(sources + first + arc * SLICE)
        total += tl.load(weights + first + arc * SLICE) * tl.load(values + other)
    return state, total


@triton.jit(do_not_specialize=OF_GRAPH)
def forward_kernel(
    likely, lengths, start, prior, leaked, first, loop, slots, sources, weights, starts, degrees, alphas, scales, leak, time,
    outputs, states, slices, SLICE: tl.constexpr,
):  # fmt: skip
    """Alphas before they are divided by their sum and leak, and those sums.

    likely: (batch, time, outputs). leaked: (states,) the prior after a step along the arcs. alphas: (batch, time, states) and
    scales: (batch, time), both untouched behind the utterance.
    """
    utterance = tl.program_id(0).to(tl.int64)
    length = tl.minimum(tl.maximum(tl.load(lengths + utterance), 0), time).to(tl.int32)
    row, frame_of = alphas + utterance * time * states, likely + utterance * time * outputs
    scale = 1.0
    for frame in range(length):
        sums = tl.zeros([SLICE], tl.float32)
        before = row - states
        for number in range(slices):
            if frame == 0:
                state = tl.load(slots + number * SLICE + tl.arange(0, SLICE))
                valid = state >= 0
                new = tl.load(start + state, mask=valid, other=0.0)
                stay = tl.zeros([SLICE], tl.float32)
            else:
                state, arrived = arrivals(slots, sources, weights, starts, degrees, before, number, SLICE)
                valid = state >= 0
                new = arrived / scale + leak * tl.load(leaked + state, mask=valid, other=0.0)
                stay = tl.load(before + state, mask=valid, other=0.0) / scale
                stay += leak * tl.load(prior + state, mask=valid, other=0.0)
            entering = tl.load(frame_of + tl.load(first + state, mask=valid, other=0), mask=valid, other=0.0)
            staying = tl.load(frame_of + tl.load(loop + state, mask=valid, other=0), mask=valid, other=0.0)
            new = new * entering + stay * staying
            tl.store(row + state, new, mask=valid)
            sums += new
        scale = tl.sum(sums)
        tl.store(scales + utterance * time + frame, scale)
        row, frame_of = row + states, frame_of + outputs
        # the next frame reads what all threads wrote
        tl.debug_barrier()


@triton.jit(do_not_specialize=OF_GRAPH)
def backward_kernel(
    likely, lengths, final, last, prior, first, loop, slots, sources, weights, starts, degrees, alphas, scales, betas, moving,
    staying, stayed, leak, time, outputs, states, slices, SLICE: tl.constexpr,
):  # fmt: skip
    """Posteriors: of entering a state over its alphas, and of staying in it.

    last: (batch,) weight of all paths, relative to the scales. betas, moving, staying: (batch, states) for its own use: beta,
    what a state passes on to those that arcs come from, and to itself. stayed: (batch, time, states), untouched behind the
    utterance.
    """
    utterance = tl.program_id(0).to(tl.int64)
    length = tl.minimum(tl.maximum(tl.load(lengths + utterance), 0), time).to(tl.int32)
    beta_of, moving_of, staying_of = (
        betas + utterance * states,
        moving + utterance * states,
        staying + utterance * states,
    )
    total, lane = tl.load(last + utterance), tl.arange(0, SLICE)
    leaks = tl.zeros([SLICE], tl.float32)
    for number in range(slices):
        state = number * SLICE + lane
        valid = state < states
        beta = tl.load(final + state, mask=valid, other=0.0) / total
        tl.store(beta_of + state, beta, mask=valid)
        leaks += beta * tl.load(prior + state, mask=valid, other=0.0)
    through = leak * tl.sum(leaks)
    tl.debug_barrier()
    for back in range(length):
        frame = length - 1 - back
        at = (utterance * time + frame) * states
        row, frame_of = alphas + at, likely + (utterance * time + frame) * outputs
        scale = tl.load(scales + utterance * time + frame)
        scale_before = tl.load(scales + utterance * time + frame - 1, mask=frame > 0, other=1.0)
        for number in range(slices):
            state = number * SLICE + lane
            valid = state < states
            whole = (tl.load(beta_of + state, mask=valid, other=0.0) + through) / scale
            occupied = tl.load(row + state, mask=valid, other=0.0) * whole
            entering = tl.load(frame_of + tl.load(first + state, mask=valid, other=0), mask=valid, other=0.0)
            again = whole * tl.load(frame_of + tl.load(loop + state, mask=valid, other=0), mask=valid, other=0.0)
            earlier = valid & (frame > 0)
            before = tl.load(row - states + state, mask=earlier, other=0.0) / scale_before
            before += leak * tl.load(prior + state, mask=earlier, other=0.0)
            stay = again * before
            tl.store(row + state, tl.maximum(occupied - stay, 0.0), mask=valid)
            tl.store(stayed + at + state, stay, mask=valid)
            tl.store(moving_of + state, whole * entering, mask=valid)
            tl.store(staying_of + state, again, mask=valid)
        tl.debug_barrier()
        leaks = tl.zeros([SLICE], tl.float32)
        for number in range(slices):
            state, arrived = arrivals(slots, sources, weights, starts, degrees, moving_of, number, SLICE)
            valid = state >= 0
            beta = arrived + tl.load(staying_of + state, mask=valid, other=0.0)
            tl.store(beta_of + state, beta, mask=valid)
            leaks += tl.where(valid, beta * tl.load(prior + state, mask=valid, other=0.0), 0.0)
        through = leak * tl.sum(leaks)
        tl.debug_barrier()


def refusal(emissions: Tensor, lengths: Tensor, graph: Denominator, posteriors: bool = True) -> str | None:
    """Why the kernels do not cover these, in a sentence; None if they do."""
    if emissions.dtype != torch.float32:
        return f"emissions have dtype {emissions.dtype}, expected float32 for Triton kernels"
    if graph.into is None or graph.out_of is None:
        return "the graph has no arcs sorted for Triton kernels, expected those of `make_denominator`"
    if 0 in emissions.shape or max(emissions.shape[1:]) * len(graph.first) > LARGEST_OFFSET:
        return f"emissions have shape {tuple(emissions.shape)}, expected some, and fewer frames, for Triton kernels"
    return None


def denominator_posteriors(
    emissions: Tensor, lengths: Tensor, graph: Denominator, posteriors: bool = True
) -> tuple[Tensor, Tensor | None]:
    """See `asr.kernels.denominator.denominator_posteriors`."""
    assert graph.into is not None and graph.out_of is not None, "`refusal` sees to it"
    (batch, time, outputs), states, device = emissions.shape, len(graph.first), emissions.device
    top = emissions.amax(2)
    likely = (emissions - top[..., None]).clamp_min(FLOOR).exp()
    lengths = lengths.contiguous()
    live = torch.arange(time, device=device) < lengths[:, None]
    alphas, scales = emissions.new_zeros(batch, time, states), emissions.new_ones(batch, time)
    sizes = {"leak": graph.leak, "time": time, "outputs": outputs, "states": states, "SLICE": SLICE}
    prior = graph.prior.flatten()
    given: dict[str, Any] = {
        "likely": likely,
        "lengths": lengths,
        "prior": prior,
        "first": graph.first,
        "loop": graph.loop,
        **sizes,
    }
    launch(
        forward_kernel, (batch,), warps=WARPS, **given, **arcs_of(graph.into), start=graph.start.flatten(),
        leaked=graph.into.prior, alphas=alphas, scales=scales,
    )  # fmt: skip
    ends, rows = (lengths - 1).clamp_min(0), torch.arange(batch, device=device)
    alpha = alphas[rows, ends] / scales[rows, ends, None] + graph.leak * prior
    last = torch.where(lengths > 0, (alpha * graph.final.flatten()).sum(1), 1.0)
    total = torch.where(lengths > 0, last.log() + scales.log().sum(1) + (top * live).sum(1), 0.0)
    if not posteriors:
        return total, None
    betas, moving, staying = emissions.new_empty(3, batch, states)
    stayed = torch.zeros_like(alphas)
    launch(
        backward_kernel, (batch,), warps=WARPS, **given, **arcs_of(graph.out_of), final=graph.final.flatten(), last=last,
        alphas=alphas, scales=scales, betas=betas, moving=moving, staying=staying, stayed=stayed,
    )  # fmt: skip
    return total, alphas @ graph.entered.t() + stayed @ graph.stayed.t()


def arcs_of(arcs: Arcs) -> dict[str, Any]:
    """What the kernels are given of arcs."""
    return {
        "slots": arcs.slots, "sources": arcs.others, "weights": arcs.weights, "starts": arcs.starts, "degrees": arcs.degrees,
        "slices": len(arcs.starts),
    }  # fmt: skip
