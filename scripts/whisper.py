"""Whisper (Radford et al. 2022) in plain PyTorch, its encoder under any attention, from weights in CTranslate2's format.

No program: `evaluate_whisper.py` uses it. The decoder's attention stays full, as it reads one token at a time.
"""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor

from asr.errors import UserError

SAMPLE_RATE, SECONDS, HOP, WINDOW, BANDS = 16000, 30, 160, 400, 80
DTYPES = {0: numpy.float32, 1: numpy.int8, 2: numpy.int16, 3: numpy.int32, 4: numpy.float16}
# Tokens of the English models.
END_OF_TEXT, START, NO_TIMESTAMPS = 50256, 50257, 50362
LONGEST_TEXT = 200

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def read_weights(path: Path) -> dict[str, Tensor]:
    """The float32 weights of a CTranslate2 `model.bin`, by name.

    The format, little-endian: version u32, name, revision u32, count u32; of each variable its name, rank u8, sizes u32,
    dtype u8, bytes u32 and data; count u32 and pairs of (alias, name). A name is its length u16 and that many bytes, the
    last of them zero. Raises UserError for anything else.
    """
    try:
        with open(path, "rb") as file:
            _integer(file, "I")
            kind, _, count = _name(file), _integer(file, "I"), _integer(file, "I")
            weights = dict(_variable(file) for _ in range(count))
            for _ in range(_integer(file, "I")):
                alias = _name(file)
                weights[alias] = weights[_name(file)]
    except (OSError, struct.error, ValueError, KeyError) as error:
        raise UserError(
            f"{path} cannot be read as a CTranslate2 model ({error}): name the folder of a whole one."
        ) from None
    if kind != "WhisperSpec":
        raise UserError(f"{path} holds a {kind}, not Whisper: name the folder of a Whisper model.")
    if any(weight.dtype in (torch.int8, torch.int16) for name, weight in weights.items() if name.endswith("/weight")):
        raise UserError(f"{path} holds quantized weights: name the folder of a float16 or float32 model.")
    return {name: weight.float() for name, weight in weights.items()}


def _integer(file: BinaryIO, form: str) -> int:
    return struct.unpack(f"<{form}", file.read(struct.calcsize(form)))[0]


def _name(file: BinaryIO) -> str:
    return file.read(_integer(file, "H"))[:-1].decode()


def _variable(file: BinaryIO) -> tuple[str, Tensor]:
    name = _name(file)
    shape = [_integer(file, "I") for _ in range(_integer(file, "B"))]
    dtype = DTYPES[_integer(file, "B")]
    data = numpy.frombuffer(file.read(_integer(file, "I")), dtype).reshape(shape)
    return name, torch.tensor(data)


@functools.cache
def filter_bank() -> Tensor:
    """(bands, bins) Slaney mel filters of unit area, as in Whisper's own files."""
    import torchaudio

    bins = WINDOW // 2 + 1
    return torchaudio.functional.melscale_fbanks(bins, 0, 8000, BANDS, SAMPLE_RATE, norm="slaney", mel_scale="slaney").T


def log_mel(waveform: Tensor, padded: bool = True) -> Tensor:
    """Whisper's features: (samples,) at 16 kHz -> (bands, frames), 10 ms a frame.

    padded: to 30 s of silence, as Whisper does; else only to a whole number of encoder steps.
    """
    length = SECONDS * SAMPLE_RATE if padded else -(-len(waveform) // (2 * HOP)) * 2 * HOP
    waveform = F.pad(waveform[:length], (0, max(0, length - len(waveform))))
    spectrum = torch.stft(waveform, WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True)
    mel = (filter_bank() @ spectrum[:, :-1].abs().square()).clamp(min=1e-10).log10()
    return (torch.maximum(mel, mel.max() - 8) + 4) / 4


class Whisper:
    """The model in a folder with `model.bin` and `tokenizer.json`.

    attend: for each encoder layer, a function of queries, keys and values (batch, heads, time, dim), with the scale of
    1/sqrt(dim) left to it.
    """

    def __init__(self, folder: Path, attend: list[Attend] | None = None) -> None:
        self.weights = read_weights(folder / "model.bin")
        self.layers = len(
            {name.split("/")[1] for name in self.weights if name.startswith("encoder/layer_")} - {"layer_norm"}
        )
        self.dim = self.weights["encoder/conv1/weight"].shape[0]
        self.heads = self.dim // 64
        self.attend = attend or [F.scaled_dot_product_attention] * self.layers
        try:
            vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf8"))["model"]["vocab"]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{folder / 'tokenizer.json'} is not a tokenizer ({error}). Name the folder of a Whisper model."
            ) from None
        self.tokens = {number: token for token, number in vocabulary.items()}

    def encode(self, mel: Tensor) -> Tensor:
        """(batch, bands, frames) -> (batch, frames / 2, dim)."""
        w = self.weights
        x = F.gelu(F.conv1d(mel, w["encoder/conv1/weight"], w["encoder/conv1/bias"], padding=1))
        x = F.gelu(F.conv1d(x, w["encoder/conv2/weight"], w["encoder/conv2/bias"], stride=2, padding=1)).transpose(1, 2)
        x = x + w["encoder/position_encodings/encodings"][: x.shape[1]]
        for layer in range(self.layers):
            name = f"encoder/layer_{layer}"
            q, k, v = self._linear(self._norm(x, f"{name}/self_attention"), f"{name}/self_attention/linear_0").chunk(
                3, -1
            )
            attended = self.attend[layer](*(self._split(y) for y in (q, k, v)))
            x = x + self._linear(self._join(attended), f"{name}/self_attention/linear_1")
            x = x + self._feed_forward(x, name)
        return self._norm(x, "encoder")

    def transcribe(self, encoded: Tensor) -> str:
        """The text of one utterance by greedy decoding, without timestamps; encoded: (1, time, dim)."""
        cross = [
            [self._split(y) for y in self._linear(encoded, f"decoder/layer_{layer}/attention/linear_1").chunk(2, -1)]
            for layer in range(self.layers)
        ]
        past: list[Any] = [None] * self.layers
        for token in (START, NO_TIMESTAMPS):
            scores = self._decode(token, cross, past)
        found: list[int] = []
        while len(found) < LONGEST_TEXT:
            token = int(scores[:START].argmax())
            if token == END_OF_TEXT:
                break
            found.append(token)
            scores = self._decode(token, cross, past)
        return self.text(found)

    def _decode(self, token: int, cross: list[list[Tensor]], past: list[Any]) -> Tensor:
        """Scores (vocabulary,) of the next token; appends to `past`, keys and values of each layer."""
        w = self.weights
        position = 0 if past[0] is None else past[0][0].shape[2]
        x = (w["decoder/embeddings/weight"][token] + w["decoder/position_encodings/encodings"][position])[None, None]
        for layer in range(self.layers):
            name = f"decoder/layer_{layer}"
            q, *new = map(
                self._split,
                self._linear(self._norm(x, f"{name}/self_attention"), f"{name}/self_attention/linear_0").chunk(3, -1),
            )
            past[layer] = new if past[layer] is None else [torch.cat(pair, 2) for pair in zip(past[layer], new)]
            x = x + self._linear(
                self._join(F.scaled_dot_product_attention(q, *past[layer])), f"{name}/self_attention/linear_1"
            )
            q = self._split(self._linear(self._norm(x, f"{name}/attention"), f"{name}/attention/linear_0"))
            x = x + self._linear(
                self._join(F.scaled_dot_product_attention(q, *cross[layer])), f"{name}/attention/linear_2"
            )
            x = x + self._feed_forward(x, name)
        return F.linear(self._norm(x, "decoder"), w["decoder/embeddings/weight"])[0, 0]

    def text(self, tokens: list[int]) -> str:
        """Text of byte-level BPE tokens (Radford et al. 2019); bytes that are no UTF-8 become U+FFFD."""
        characters = "".join(self.tokens.get(token, "") for token in tokens)
        return bytes(bytes_of_characters()[character] for character in characters).decode(errors="replace")

    def _norm(self, x: Tensor, name: str) -> Tensor:
        gamma, beta = self.weights[f"{name}/layer_norm/gamma"], self.weights[f"{name}/layer_norm/beta"]
        return F.layer_norm(x, (self.dim,), gamma, beta)

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.weights[f"{name}/weight"], self.weights.get(f"{name}/bias"))

    def _feed_forward(self, x: Tensor, name: str) -> Tensor:
        return self._linear(
            F.gelu(self._linear(self._norm(x, f"{name}/ffn"), f"{name}/ffn/linear_0")), f"{name}/ffn/linear_1"
        )

    def _split(self, x: Tensor) -> Tensor:
        """(batch, time, dim) -> (batch, heads, time, head dim)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def _join(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)


@functools.cache
def bytes_of_characters() -> dict[str, int]:
    """The byte that each character of a byte-level token stands for: printable ones for themselves, the others from U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
