"""The model folder, which is what gets shipped: weights as safetensors, the rest as plain JSON and text.

    model.safetensors   the weights
    model.json          the description: `asr.model.network.Model` is rebuilt from it, by names in our own registries
    units.json, …       the units (`asr.text.units`), with their lexicon or sentencepiece model
    README.md           the model card (`asr.evaluation.card`)

None of it is code, and reading it runs none.
"""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from asr.errors import UserError
from asr.model.attention import attention_at
from asr.model.encoders import encoders
from asr.model.heads import heads
from asr.model.network import FIRST_HEAD, Model
from asr.text.units import Units, load_units

FORMAT = 1
WEIGHTS, DESCRIPTION, CARD = "model.safetensors", "model.json", "README.md"
PARTS = {"features": dict, "encoder": dict, "attention": dict, "head": dict, "units": int}


def save_model(folder: Path, model: Model, units: Units, trained_on: dict[str, Any]) -> None:
    """Writes the model folder, completely or not at all.

    trained_on: plain data about where the weights come from; `evaluate.py` scores its `corpus` by default.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        aside.chmod(0o755)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, str(aside / WEIGHTS))
        write_description(aside / DESCRIPTION, model.description, trained_on)
        units.save(aside)
        if (folder / CARD).is_file():
            # its owner may have edited it
            shutil.copyfile(folder / CARD, aside / CARD)
        if folder.exists():
            shutil.rmtree(folder)
        aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def write_description(path: Path, description: dict[str, Any], trained_on: dict[str, Any]) -> None:
    content = {"format": FORMAT, **description, "trained_on": trained_on}
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf8")


def load_model(folder: Path) -> tuple[Model, Units, dict[str, Any]]:
    """Reads a model folder: (model, units, trained_on). Raises UserError if a file is missing, truncated or of the wrong kind."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    for file in (WEIGHTS, DESCRIPTION):
        if not (folder / file).is_file():
            raise UserError(f"{folder} is not a model folder: it has no {file}. Name one that train.py wrote.")
    try:
        content = json.loads((folder / DESCRIPTION).read_text(encoding="utf8"))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{folder / DESCRIPTION} is not JSON ({error}): the file is cut short or not a description. Copy it again."
        ) from None
    description, trained_on = checked_description(content, str(folder / DESCRIPTION))
    units = load_units(folder)
    try:
        weights = load_file(str(folder / WEIGHTS))
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{folder / WEIGHTS} holds no weights ({error}): the file is cut short or not a model. Copy it again."
        ) from None
    return rebuild(description, units, weights, str(folder)), units, trained_on


def checked_description(content: Any, source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(description, trained_on) out of a file's content. Raises UserError, naming the field, if it is malformed."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise UserError(
            f"{source}: the field 'format' is {found!r}, not {FORMAT}: another version of asr wrote it. "
            "Use that version, or export the model again."
        )
    content = {"head": FIRST_HEAD, **content}
    for part, kind in PARTS.items():
        if not isinstance(content.get(part), kind):
            raise UserError(
                f"{source}: the field {part!r} is missing or not a {kind.__name__}. Export the model again."
            )
    for part in ("encoder", "attention", "head"):
        if not isinstance(content[part].get("name"), str):
            raise UserError(f"{source}: the field {part + '.name'!r} is missing. Export the model again.")
    trained_on = content.get("trained_on")
    return {part: content[part] for part in PARTS}, trained_on if isinstance(trained_on, dict) else {}


def rebuild(description: dict[str, Any], units: Units, weights: dict[str, torch.Tensor], source: str) -> Model:
    """Builds the model of a description and loads its weights. Raises UserError if they do not fit each other."""
    if description["units"] != len(units.symbols):
        raise UserError(
            f"{source}: the weights are for {description['units']} units but its units.json has {len(units.symbols)}. "
            "Export the model again."
        )
    for name, tensor in weights.items():
        if not torch.is_tensor(tensor) or not bool(torch.isfinite(tensor).all()):
            raise UserError(
                f"{source}: the weights {name} hold values that are not numbers: training had diverged. "
                "Use an earlier checkpoint."
            )
    try:
        refuse_misfit(description, weights)
        model = Model(description)
        model.load_state_dict(weights)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()
        reason = " ".join(reason[:2]).rstrip(".")
        raise UserError(
            f"{source}: the weights do not fit the description: {reason}. Export the model again."
        ) from None
    return model.eval()


def refuse_misfit(description: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
    """Raises ValueError, before allocating any memory, if a description's encoder or head has other weights than these.

    A stranger's description may ask for an encoder that fits no machine.
    """
    settings, mels = description["encoder"], description["features"].get("mels", 40)
    if isinstance(settings.get("layers"), int) and settings["layers"] > len(weights):
        raise ValueError(f"there are {len(weights)} tensors for {settings['layers']} layers")
    with torch.device("meta"):
        create_attention = functools.partial(attention_at, description["attention"])
        encoder = encoders.create(settings, input_dim=mels, create_attention=create_attention)
        head = heads.create(description["head"], dim=encoder.output_dim, units=description["units"])
    for part, module in (("encoder", encoder), ("head", head)):
        for name, expected in module.state_dict().items():
            found = weights.get(f"{part}.{name}")
            if found is None or found.shape != expected.shape:
                shape = "missing" if found is None else tuple(found.shape)
                raise ValueError(f"{part}.{name} is {shape}, not {tuple(expected.shape)}")
