"""Files that are not what they should be: audio, and archives that claim more than they hold."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import soundfile

THREE_HOURS = 3 * 3600


def wav(
    path: Path,
    samples: numpy.ndarray | bytes = b"\0\0" * 8000,
    channels: int = 1,
    sample_rate: int = 16000,
    bits: int = 16,
    kind: int = 1,
    claimed: int | None = None,
    block: int | None = None,
) -> Path:
    """A WAV file, byte by byte. kind: 1 for integers, 3 for floats. claimed: the size of the audio that its header claims."""
    data = samples if isinstance(samples, bytes) else samples.tobytes()
    size = len(data) if claimed is None else claimed
    block = channels * bits // 8 if block is None else block
    header = struct.pack("<4sI4s4sI", b"RIFF", min(size + 36, 2**32 - 1), b"WAVE", b"fmt ", 16)
    header += struct.pack("<HHIIHH", kind, channels, sample_rate, (sample_rate * block) % 2**32, block, bits)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + struct.pack("<4sI", b"data", size) + data)
    return path


def floats(path: Path, value: float) -> Path:
    """Half a second of silence with one sample of this value in it."""
    samples = numpy.zeros(8000, numpy.float32)
    samples[4000] = value
    return wav(path, samples, bits=32, kind=3)


def three_hours_of_wav(path: Path) -> Path:
    """A sparse file: it takes no room, and reads as silence."""
    size = THREE_HOURS * 16000 * 2
    wav(path, b"", claimed=size)
    with open(path, "r+b") as file:
        file.truncate(44 + size)
    return path


def three_hours_of_flac(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with soundfile.SoundFile(path, "w", 8000, 1, format="FLAC", subtype="PCM_16") as file:
        minute = numpy.zeros(60 * 8000, numpy.int16)
        for _ in range(THREE_HOURS // 60):
            file.write(minute)
    return path


def noise(path: Path, seconds: float = 1.0, sample_rate: int = 16000) -> Path:
    """Noise, which no codec makes small."""
    samples = 0.1 * numpy.random.default_rng(0).standard_normal(int(seconds * sample_rate))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, sample_rate)
    return path


def unreadable(path: Path) -> Path:
    """A file that its owner may not read. Raises PermissionError where the user may read everything."""
    if os.geteuid() == 0:
        raise PermissionError("this user may read everything")
    wav(path).chmod(0)
    return path


def cut_short(path: Path, share: float = 0.5) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def mp3(path: Path) -> Path:
    tone = 0.3 * numpy.sin(numpy.arange(16000) / 8)
    file = io.BytesIO()
    soundfile.write(file, tone, 16000, format="MP3")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.getvalue())
    return path


class Bomb:
    """Unpickling this makes a file."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def bomb(path: Path) -> Path:
    path.write_bytes(pickle.dumps(Bomb(path.with_name("it-was-run"))))
    return path


def rewritten(path: Path, changed: dict[str, Callable] | None = None, compress: tuple[str, ...] = ()) -> Path:
    """A small PyTorch file with some records changed, by the end of their names, and some compressed."""
    import torch

    whole = io.BytesIO()
    torch.save({"state_dict": {"model.head.bias": torch.zeros(2)}, "asr": {}}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w", compresslevel=1) as target:
        for name in source.namelist():
            content = source.read(name)
            for end, change in (changed or {}).items():
                content = change(content) if name.endswith(end) else content
            kind = zipfile.ZIP_DEFLATED if name.endswith(compress) and compress else zipfile.ZIP_STORED
            target.writestr(name, content, compress_type=kind)
    return path


def squeezed(path: Path, mebibytes: int = 512) -> Path:
    """A checkpoint whose one storage, compressed a hundredfold and more, unpacks to so many mebibytes."""
    return rewritten(path, {"/data/0": lambda _: bytes(mebibytes * 2**20)}, compress=("/data/0",))


def huge_storage(path: Path) -> Path:
    """A checkpoint in which a tensor of eight bytes is said to have 2**40 elements."""
    two, many = b"K\x02", b"\x8a\x06" + (2**40).to_bytes(6, "little")
    return rewritten(path, {"data.pkl": lambda content: content.replace(two, many)})


def promising_header(path: Path) -> None:
    """A safetensors file that claims a header of 2**60 bytes."""
    path.write_bytes(struct.pack("<Q", 2**60) + b"{}")


def promising_tensor(path: Path) -> None:
    """A safetensors file whose header gives one tensor 2**60 bytes, of which none is there."""
    tensor = {"dtype": "F32", "shape": [2**58], "data_offsets": [0, 2**60]}
    header = json.dumps({"head.bias": tensor}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def poison(path: Path) -> None:
    """Makes one weight of a safetensors file NaN."""
    from safetensors.torch import load_file, save_file

    weights = load_file(path)
    weights["head.weight"][0, 0] = float("nan")
    save_file(weights, path)


def change_json(path: Path, part: str, field: str, value: Any) -> None:
    content = json.loads(path.read_text())
    content[part][field] = value
    path.write_text(json.dumps(content))


def more_units(path: Path) -> None:
    content = json.loads(path.read_text())
    content["symbols"].append("ß")
    path.write_text(json.dumps(content))


def carry(path: Path, name: str, content: Any) -> Path:
    """Puts one file more among the units that a .ckpt file carries."""
    import torch

    whole = torch.load(path, weights_only=True)
    whole["asr"]["units"] = {name: content, **whole["asr"]["units"]}
    torch.save(whole, path)
    return path


def escaping_units(path: Path) -> Path:
    import torch

    from tests.support.hostile_place import good_checkpoint

    return carry(good_checkpoint(path), "../escaped.txt", torch.zeros(3, dtype=torch.uint8))


def endless_units(path: Path) -> Path:
    """Carries a file that takes one byte in the checkpoint and 2**40 when it is written."""
    import torch

    from tests.support.hostile_place import good_checkpoint

    return carry(good_checkpoint(path), "more.json", torch.zeros(1, dtype=torch.uint8).expand(2**40))
