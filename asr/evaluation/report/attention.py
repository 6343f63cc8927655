"""Pictures of the attention matrices of one utterance, full attention beside its approximations: Vyas et al. 2020, Figure 8."""

from __future__ import annotations

import dataclasses
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr.audio.cuts import load_waveform
from asr.config.settings import knobs_of
from asr.errors import UserError, nearest
from asr.evaluation.report.page import code, figure, page, paragraph, table
from asr.evaluation.report.plots import new_figure
from asr.model.attention import attentions, knob_of
from asr.model.attention.matrices import Distance, Projections, attention_matrix, capture_projections, distance
from asr.model.network import Model
from asr.runtime.files import write_together

BESIDE_FULL = ("i_clustered", "clustered")
FULL = ("full", "shared_full")
TOP_KEYS = 32  # keys per query that distances are computed on, the paper's k
CELLS = 200  # most rows and columns of a drawn matrix: about what a screen can show
CELLS_IN_ALL = 6_000_000  # in all matrices of a page; about as many bytes
MOST_STATES = 6000  # hidden states of one utterance; then a matrix takes 144 MB per head

ABOUT_INPUT = (
    "Every layer's queries and keys come from the model as it was trained (attention {trained_with}), run end to end; all "
    "attentions then get the same queries and keys, so that their matrices differ by the attention alone. A matrix is the "
    "attention's output for the identity matrix as values: its own arithmetic, not a reimplementation."
)
HEADERS = [
    "Layer",
    "Attention",
    "L1 distance to full",
    f"Captured of the top {TOP_KEYS}",
    f"Full's weight on its top {TOP_KEYS}",
]
ABOUT_DISTANCES = (
    "L1 distance: the sum of |difference| over the keys, 0 for equal weights and 2 for no key in common. Captured: of full "
    "attention's weight on each query's top keys, the share that the attention gives them too. All are means over heads and "
    "queries."
)
ABOUT_MATRICES = (
    "Rows are queries and columns keys, in seconds. Colours show square roots of weights, from 0 to the 99.5 % quantile of "
    "full attention's, on one scale per head."
)


def utterance_called(name: str, cuts: Sequence) -> Any:
    """The cut of this id. Raises UserError, with the nearest ids, if the split has none."""
    found = next((cut for cut in cuts if cut.id == name), None)
    if found is None:
        such_as = nearest(name, (cut.id for cut in cuts)).replace("--help lists what there is", f"such as {cuts[0].id}")
        raise UserError(f"plot_attention={name}: the split has no usable utterance of this name: {such_as}.")
    return found


def knobs_of_pictures() -> set[str]:
    """The knobs of the attentions that are always drawn."""
    return {knob for name in BESIDE_FULL for knob in knobs_of(name)}


def drawn_settings(own: dict[str, Any], knobs: dict[str, int]) -> list[dict[str, Any]]:
    """The settings of the attentions to draw beside full: i_clustered, clustered, and `own` if it is a third one.

    knobs: given by the user; they override those of `own`.
    """
    drawn = []
    for name in BESIDE_FULL:
        asked = {knob: value for knob, value in knobs.items() if knob in knobs_of(name)}
        drawn.append({**(own if own["name"] == name else {"name": name}), **asked})
    if own["name"] not in (*BESIDE_FULL, *FULL):
        drawn.append(own)
    return drawn


@dataclasses.dataclass
class LayerPictures:
    """The attention matrices of one layer by label, full attention first, each (heads, time, time) float32; and the distances
    of the others from it."""

    matrices: dict[str, Tensor]
    distances: dict[str, Distance]


def layer_pictures(projections: Projections, settings: Sequence[dict[str, Any]]) -> LayerPictures:
    """The matrices of full attention and of those in `settings`, for one layer's queries and keys of one sequence."""
    queries, keys, lengths, seed, own = projections
    name = "shared_full" if keys is queries else "full"
    full = attention_matrix(attentions.create({"name": name}, seed=seed), queries, keys, lengths)[0]
    pictures = LayerPictures({"full": full}, {})
    for setting in settings:
        part = own if own is not None and own.settings() == setting else attentions.create(setting, seed=seed)
        matrix = attention_matrix(part, queries, keys, lengths)[0]
        pictures.matrices[part.label()] = matrix
        pictures.distances[part.label()] = distance(matrix, full, TOP_KEYS)
    return pictures


def capture_layers(model: Model, waveform: Tensor) -> list[Projections]:
    """The queries and keys of every layer for one utterance: the model runs end to end with its own attention.

    waveform: (samples,) float32. Runs on the CPU, where no attention pads to a kernel's blocks. Raises UserError if the utterance
    is too long for its matrices to fit into memory.
    """
    samples = torch.tensor([len(waveform)])
    states = int(model.encoder.state_lengths(model.features.frames_of(samples))[0])
    if states > MOST_STATES:
        raise UserError(
            f"The utterance has {states} hidden states, too many to draw (at most {MOST_STATES}): choose a shorter one."
        )
    model.eval()

    def run() -> None:
        with torch.inference_mode():
            model(waveform[None], samples)

    return capture_projections(model, run)


def write_attention_pictures(
    folder: Path, cut, checkpoint_model: Model, own: dict[str, Any], knobs: dict[str, int], command: str
) -> Path:
    """Writes `attention-<utterance>.html` and one PNG file per layer into `folder`; returns the path of the page.

    checkpoint_model: runs with the attention it was trained with, so that all matrices of a layer come from the same queries and
    keys, and differ by the attention alone. own: settings of the evaluated attention. knobs: given by the user (see
    `drawn_settings`). Raises UserError for an encoder without attention, and for an utterance that is too long.
    """
    model = checkpoint_model.cpu()
    settings = drawn_settings(own, knobs)
    layers = capture_layers(model, load_waveform(cut))
    if not layers:
        raise UserError("plot_attention: this encoder has no attention to draw. Leave it out.")
    heads, time = layers[0].keys.shape[1:3]
    cells = min(CELLS, max(32, math.isqrt(CELLS_IN_ALL // (len(layers) * heads * (len(settings) + 1)))))
    base = f"attention-{re.sub(r'[^A-Za-z0-9._+-]', '_', cut.id)[:120]}"
    rows, figures, files = [], [], {}
    for number, projections in enumerate(layers, start=1):
        pictures = layer_pictures(projections, settings)
        path = folder / f"{base}-layer-{number}.png"
        files[path] = png_of(draw_layer(pictures, time * model.seconds_per_state, cells))
        figures.append(figure(files[path], f"Layer {number} ({path.name})"))
        rows += [distance_row(number, label, d) for label, d in pictures.distances.items()]
    about = [
        paragraph(f"{cut.id}: {cut.duration:.2f} s, {time} hidden states. ", code(command)),
        paragraph(ABOUT_INPUT.format(trained_with=model.attention_label())),
    ]
    for setting in settings:
        if (knob_of(setting, "clusters") or 0) >= time:
            name = setting["name"]
            many = (
                f"{name} has at least as many clusters as there are queries ({time}), which is nearly full attention: "
            )
            about.append(paragraph(many + "set clusters=… lower to see the effect of clustering."))
    pooled = " A point shows the largest weight of the steps that it covers." if time > cells else ""
    sections = [
        ("Distance to full attention", [table(HEADERS, rows), paragraph(ABOUT_DISTANCES, quiet=True)]),
        ("Matrices", [paragraph(ABOUT_MATRICES + pooled, quiet=True), *figures]),
    ]
    path = folder / f"{base}.html"
    write_together({**files, path: page(f"Attention: {cut.id}", sections, about)})
    return path


def distance_row(layer: int, label: str, d: Distance) -> list[str]:
    return [str(layer), label, f"{d.l1:.4f}", f"{100 * d.captured:.1f} %", f"{100 * d.concentration:.1f} %"]


def draw_layer(pictures: LayerPictures, seconds: float, cells: int):
    """One row per attention, one column per head. seconds: the length of both axes. cells: see `coarse`."""
    import numpy
    from matplotlib.colors import PowerNorm

    full = pictures.matrices["full"]
    heads = full.shape[0]
    drawing = new_figure(1.75 * heads + 0.9, 1.75 * len(pictures.matrices) + 0.5)
    all_axes = drawing.subplots(len(pictures.matrices), heads, squeeze=False, sharex=True, sharey=True)
    for head in range(heads):
        high = max(float(numpy.quantile(full[head].numpy(), 0.995)), 1e-6)
        for row, (label, matrix) in enumerate(pictures.matrices.items()):
            axes = all_axes[row, head]
            axes.imshow(
                coarse(matrix[head], cells).numpy(), cmap="magma", norm=PowerNorm(0.5, 0, high), interpolation="nearest",
                extent=(0, seconds, seconds, 0), aspect="equal",
            )  # fmt: skip
            axes.tick_params(labelsize=7, length=2)
            if row == 0:
                axes.set_title(f"head {head + 1}", fontsize=8)
            if head == 0:
                axes.set_ylabel(label, fontsize=9)
    drawing.supxlabel("Keys (seconds)", fontsize=8)
    return drawing


def png_of(drawing) -> bytes:
    """A PNG file with a palette of 256 colours, as many as the colour map has, which takes a third of the bytes."""
    from PIL import Image

    whole, reduced = io.BytesIO(), io.BytesIO()
    drawing.savefig(whole, format="png", facecolor="white")
    with Image.open(whole) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(reduced, format="PNG", optimize=True)
    return reduced.getvalue()


def coarse(matrix: Tensor, cells: int) -> Tensor:
    """(time, time) → at most (cells, cells) by max pooling."""
    together = math.ceil(matrix.shape[-1] / cells)
    if together == 1:
        return matrix
    return torch.nn.functional.max_pool2d(matrix[None], together, ceil_mode=True)[0]
