"""Opens what a user calls a checkpoint: a run folder, one of Lightning's .ckpt files, or an exported model folder."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch

from asr.config.settings import knobs_of, unread_knob
from asr.errors import UserError
from asr.model.attention import attentions
from asr.model.folder import WEIGHTS, checked_description, load_model, rebuild
from asr.model.network import Model
from asr.text.units import Units, load_units

CARRIED = "asr"


@dataclasses.dataclass
class Checkpoint:
    """A model ready to be evaluated, with its units.

    trained_on: plain data: `corpus` (its settings), `command`, …
    run: the run folder that contains it, if any.
    path: what the user named.
    """

    model: Model
    units: Units
    trained_on: dict[str, Any]
    run: Path | None
    path: Path

    @property
    def home(self) -> Path:
        """Where to write what is made from this checkpoint: its run's folder, else the model's."""
        return self.run or (self.path if self.path.is_dir() else self.path.parent)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Opens a checkpoint without running any code that it names.

    Of a run folder it opens `model/` or, if training has not ended, the best checkpoint, else the last one.
    Raises UserError if there is none, or if it is truncated or not asr's.
    """
    path = Path(path)
    if not path.exists():
        if str(path) == "RUN":
            raise UserError(
                "RUN stands for the run to start from: name its folder, such as init_from=runs/wsj/full/..."
            )
        raise UserError(f"There is no checkpoint at {path}: name a run's folder, a .ckpt file or a model folder.")
    if path.is_file():
        if path.name == WEIGHTS:
            return open_checkpoint(path.parent)
        return open_file(path, run_of(path), path)
    if (path / WEIGHTS).is_file():
        model, units, trained_on = load_model(path)
        return Checkpoint(model, units, trained_on, run_of(path / WEIGHTS), path)
    if (path / "model" / WEIGHTS).is_file():
        model, units, trained_on = load_model(path / "model")
        return Checkpoint(model, units, trained_on, path, path)
    for name in ("best.ckpt", "last.ckpt"):
        if (path / "checkpoints" / name).is_file():
            return open_file(path / "checkpoints" / name, path, path)
    raise UserError(
        f"{path} is neither a run's folder nor a model folder: it holds no model and no checkpoint. Name one that does, "
        "or a .ckpt file."
    )


def run_of(file: Path) -> Path | None:
    """The run folder whose `model/` or `checkpoints/` contains a file, or None."""
    run = file.resolve().parent.parent
    return run if file.resolve().parent.name in ("model", "checkpoints") and (run / "config.yaml").is_file() else None


def open_file(file: Path, run: Path | None, path: Path) -> Checkpoint:
    content = read_tensors(file)
    carried = content.get(CARRIED)
    if not isinstance(carried, dict) or not isinstance(carried.get("units"), dict):
        raise UserError(
            f"{file} is a PyTorch file, but not a checkpoint of asr: it has no field {CARRIED!r}. Name one "
            "that train.py wrote."
        )
    description, trained_on = checked_description(carried.get("description"), f"{file}, description")
    units = unpack_units(carried["units"], str(file))
    state = content.get("state_dict")
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise UserError(
            f"{file} holds no weights: its field 'state_dict' is missing or of the wrong type. Name another checkpoint."
        )
    weights = {name.removeprefix("model."): state[name] for name in state if name.startswith("model.")}
    return Checkpoint(rebuild(description, units, weights, str(file)), units, trained_on, run, path)


def read_tensors(file: Path) -> dict[str, Any]:
    """Reads a PyTorch file as tensors and plain data: `weights_only` refuses anything that would run code.

    Raises UserError for a file that is truncated, inflated, or not such a file.
    """
    refuse_inflated(file)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{file} is not a checkpoint that can be opened safely: it is cut short, is something else, or names code "
            "to be run, which asr never does. Name another checkpoint."
        ) from None
    except Exception as error:
        # given arbitrary bytes, torch's reader may raise anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{file} is not a checkpoint, or is cut short ({reason}). Copy it again, or name another."
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{file} is not a checkpoint: it holds a {type(content).__name__}. Name another.")
    return content


def refuse_inflated(file: Path) -> None:
    """Raises UserError for an archive that unpacks to more than its own size, which PyTorch never writes."""
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{file} is not a checkpoint, or is cut short ({error}). Copy it again, or name another."
        ) from None
    stored = all(record.compress_type == zipfile.ZIP_STORED for record in records)
    if not stored or sum(record.file_size for record in records) > file.stat().st_size:
        raise UserError(
            f"{file} is not a checkpoint: its records are compressed, or claim more than the file holds. Name another."
        )


def pack_units(units: Units) -> dict[str, torch.Tensor]:
    """The units' files as byte tensors, so that one .ckpt file carries them too."""
    with tempfile.TemporaryDirectory() as folder:
        units.save(Path(folder))
        return {
            file.name: torch.tensor(list(file.read_bytes()), dtype=torch.uint8)
            for file in sorted(Path(folder).iterdir())
        }


def unpack_units(files: dict[str, torch.Tensor], source: str) -> Units:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            if (
                Path(str(name)).name != name
                or name == ".."
                or not torch.is_tensor(content)
                or content.dtype != torch.uint8
                # a view of one byte can claim to be a terabyte
                or content.dim() != 1
                or not content.is_contiguous()
            ):
                raise UserError(
                    f"{source}: the units carry a file called {name!r}, which is not "
                    "a plain file name with plain bytes. Name another checkpoint."
                )
            (Path(folder) / name).write_bytes(bytes(content.tolist()))
        return load_units(Path(folder))


def choose_attention(model: Model, attention: dict[str, Any] | None, knobs: dict[str, int]) -> dict[str, Any] | None:
    """Settings of the attention to run a model with; None for the model's own.

    attention: settings to use instead of the model's own. knobs: settings to change in either.
    Raises UserError if the attention is unknown or lacks one of the knobs.
    """
    if attention is None and not knobs:
        return None
    chosen = dict(attention or model.description["attention"])
    for knob, value in knobs.items():
        if knob not in knobs_of(chosen["name"]):
            raise UserError(unread_knob(chosen["name"], knob))
        chosen[knob] = value
    attentions.get(chosen["name"])
    return chosen


def weights_digest(model: Model) -> str:
    """A digest of a model's weights, so that a cached result is only used with the weights that it came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
