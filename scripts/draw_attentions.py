"""Draws the matrix of every attention on the same queries and keys, for docs/attentions.md.

    python scripts/draw_attentions.py                            # docs/attentions/*.png from projections.safetensors there
    python scripts/draw_attentions.py checkpoint=RUN split=test  # captures new queries and keys from a trained model first

The attention itself computes its matrix (asr.model.attention.matrices). The same file gives the same pictures.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from asr.evaluation.report.attention import capture_layers, png_of  # noqa: E402
from asr.evaluation.report.plots import new_figure  # noqa: E402
from asr.model.attention import attentions  # noqa: E402
from asr.model.attention.matrices import attention_matrix  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs/attentions"
PROJECTIONS = FOLDER / "projections.safetensors"
# fewer clusters and keys than usual, so that their effect shows on a hundred steps
KNOBS = {"clusters": 12, "topk": 8, "rounds": 2, "chunk": 16}
LAYER = 2  # counted from 1
LONGEST_SECONDS = 5.0
NOT_DRAWN = ("auto",)  # it is either full or i_clustered, depending on the machine


def capture(checkpoint: str, split: str, cache: str) -> None:
    """Saves one layer's queries and keys for the first utterance of the split that is short enough."""
    from asr.audio.cuts import load_waveform
    from asr.data.corpora import corpora
    from asr.model.checkpoint import open_checkpoint

    opened = open_checkpoint(checkpoint)
    cuts = corpora.create(opened.trained_on["corpus"]).load(Path(cache)).splits[split]
    cut = next(one for one in cuts if one.duration < LONGEST_SECONDS)
    layer = capture_layers(opened.model, load_waveform(cut))[LAYER - 1]
    tensors = {"queries": layer.queries.half().contiguous(), "keys": layer.keys.half().contiguous()}
    step = opened.model.seconds_per_state
    save_file(tensors, PROJECTIONS, {"utterance": cut.id, "layer": str(LAYER), "seconds_per_step": str(step)})


def matrices() -> dict[str, torch.Tensor]:
    """The matrix (heads, time, time) of every attention, by label. Attentions that share them get the queries as keys."""
    tensors = {name: x.float() for name, x in load_file(PROJECTIONS).items()}
    result = {}
    for name in attentions.names():
        if name in NOT_DRAWN:
            continue
        part = attentions.create(settings_of(name), seed=LAYER - 1)
        keys = tensors["queries"] if part.shared_qk else tensors["keys"]
        result[part.label()] = attention_matrix(part, tensors["queries"], keys)[0]
    return result


def settings_of(name: str) -> dict[str, Any]:
    knobs = attentions.get(name).knobs()
    return {"name": name, **{knob: value for knob, value in KNOBS.items() if knob in knobs}}


def draw(matrix: torch.Tensor, high: float) -> Any:
    """Draws a matrix (queries, keys), in steps of the encoder; brighter is more weight, up to `high`."""
    from matplotlib.colors import PowerNorm

    figure = new_figure(3.2, 3.0)
    axes = figure.subplots()
    axes.imshow(matrix.numpy(), cmap="magma", norm=PowerNorm(0.5, 0, high), interpolation="nearest")
    axes.set(xlabel="Keys (steps)", ylabel="Queries (steps)")
    return figure


def clearest_head(matrix: torch.Tensor) -> int:
    """The head whose weights concentrate on the fewest keys, which makes the clearest figure."""
    return int(matrix.square().sum(-1).mean(-1).argmax())


def main(arguments: list[str]) -> None:
    given = dict(argument.split("=", 1) for argument in arguments)
    if given:
        capture(given["checkpoint"], given.get("split", "test"), given.get("cache", ".cache"))
    drawn = matrices()
    head = clearest_head(drawn["full"])
    high = float(drawn["full"][head].quantile(0.995))
    for label, matrix in drawn.items():
        picture = FOLDER / f"{label.partition('-')[0]}.png"
        picture.write_bytes(png_of(draw(matrix[head], high)))
        print(picture)


if __name__ == "__main__":
    main(sys.argv[1:])
