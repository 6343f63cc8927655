"""The base class of all attentions: settings, checks of the arguments, padding."""

from __future__ import annotations

import abc
import inspect
from typing import Any, ClassVar

import torch
from torch import Tensor

from asr.errors import ArgumentError
from asr.kernels.dispatch import check_environment
from asr.kernels.padding import zero_padded


class Attention(torch.nn.Module, abc.ABC):
    """Base class of all attentions.

    An attention without weights can replace any other in a trained model. One with weights takes a keyword `place` in its
    constructor (`asr.model.attention.Place`: layer, heads, dims) and registers them as parameters, which are trained,
    averaged and saved with the model. `attend` runs outside autocast, so it casts them to the dtype of its input.

    Random draws (hash planes) are neither weights nor buffers: they come from the attention's own generator, seeded by `seed`
    (the layer's index), so that the same input always gives the same output.

    name: its name on the command line, equal to its module's.
    shared_qk: whether it needs queries and keys from one projection.
    complexity: of time in the sequence length: "linear" or "quadratic".
    before: what older settings that lack a knob mean by it, by knob; `spelled_out` settings lack none of these.
    label_knob: the knob in its label (`clusters` in `i_clustered-100`), or None.
    finite_padding: set by callers that keep padding finite and ignore the output there; the attention may skip zeroing.
    """

    name: ClassVar[str]
    shared_qk: ClassVar[bool] = False
    complexity: ClassVar[str] = "quadratic"
    label_knob: ClassVar[str | None] = None
    before: ClassVar[dict[str, Any]] = {}
    finite_padding: bool = False

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        try:
            check_environment()
        except ValueError as error:
            raise ArgumentError(str(error)) from None
        self.seed = seed

    @abc.abstractmethod
    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor | None, key_lengths: Tensor | None
    ) -> Tensor:
        """The arithmetic of `forward`, on checked arguments; lengths are on the same device, or None if nothing is padded.

        The result must not depend on the padding, and must be zero there (`asr.kernels.padding.zero_padded`).
        """

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        lengths: Tensor | None = None,
        key_lengths: Tensor | None = None,
    ) -> Tensor:
        """Attends from every query to the keys of its own sequence; scores are scaled by 1/sqrt(dim).

        queries: (batch, heads, queries' time, dim), float64, float32, float16 or bfloat16.
        keys: (batch, heads, time, dim), values: (batch, heads, time, value dim), of the same dtype.
        lengths: (batch,) int64, the valid time steps of queries and, unless `key_lengths` is given, of keys. None: all.
            Lengths on the CPU avoid a synchronization when the rest is on a GPU.
        key_lengths: (batch,) int64, for attention to another sequence.

        Returns (batch, heads, queries' time, value dim) in the dtype of `values`; under autocast in autocast's dtype, but
        computed in float32 on a CPU. It is zero at padded queries and for sequences without keys. Padding never matters to the
        output or to a gradient, not even NaN. Raises ValueError, naming the argument, for shapes, dtypes and lengths that do
        not fit.
        """
        device = queries.device.type
        if torch.is_autocast_enabled(device):
            shared = _same(queries, keys)
            # on a CPU, fused attention in bfloat16 loses more time backward than it gains forward
            inside = torch.float32 if device == "cpu" else torch.get_autocast_dtype(device)
            outside = torch.get_autocast_dtype(device)
            queries, keys, values = (x.to(inside) for x in (queries, keys, values))
            keys = queries if shared else keys
        else:
            outside = values.dtype
        lengths, key_lengths = self._check(queries, keys, values, lengths, key_lengths)
        with torch.autocast(device, enabled=False):
            lengths, key_lengths = (_on_device(x, queries.device) for x in (lengths, key_lengths))
            if not self.finite_padding and next(self.parameters(), None) is not None:
                # NaN in padding times its gradient, zero, would reach the gradients of weights
                queries, values = zero_padded(queries, lengths), zero_padded(values, key_lengths)
                keys = queries if self.shared_qk else zero_padded(keys, key_lengths)
            return self.attend(queries, keys, values, lengths, key_lengths).to(outside)

    @classmethod
    def knobs(cls) -> list[str]:
        """The names of its settings: the constructor's arguments, except for `seed` and `place`."""
        return [knob for knob in inspect.signature(cls.__init__).parameters if knob not in ("self", "seed", "place")]

    def settings(self) -> dict[str, Any]:
        """Its name and knobs as plain data; `attention_at` rebuilds it from them."""
        return {"name": self.name} | {knob: getattr(self, knob) for knob in self.knobs()}

    def label(self) -> str:
        """Its name in tables, with its main knob: `full`, `i_clustered-100`, `lsh-4`."""
        knob = self.label_knob
        return self.name if knob is None else f"{self.name}-{self.settings()[knob]}"

    def extra_repr(self) -> str:
        return ", ".join(f"{knob}={getattr(self, knob)}" for knob in [*self.knobs(), "seed"])

    def whole_number(self, knob: str, value: Any, least: int = 1, most: int | None = None) -> int:
        """`value` itself. Raises ArgumentError unless it is a whole number in the knob's range."""
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or value < least
            or (most is not None and value > most)
        ):
            limits = f"of at least {least}" if most is None else f"from {least} to {most}"
            raise ArgumentError(f"{knob} of the attention {self.name} must be a whole number {limits}, not {value!r}.")
        return value

    def one_of(self, knob: str, value: Any, choices: tuple[str, ...]) -> str:
        """`value` if it is one of the knob's choices. Raises ArgumentError if it is not."""
        if value not in choices:
            raise ArgumentError(
                f"{knob} of the attention {self.name} must be one of {', '.join(choices)}, not {value!r}."
            )
        return value

    def _check(
        self, queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor | None, key_lengths: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        for argument, x in (("queries", queries), ("keys", keys), ("values", values)):
            if x.dim() != 4:
                raise ValueError(f"{argument} has shape {tuple(x.shape)}, expected (batch, heads, time, dim)")
            if x.dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
                raise ValueError(f"{argument} has dtype {x.dtype}, expected float64, float32, float16 or bfloat16")
            if x.dtype != queries.dtype:
                raise ValueError(f"{argument} has dtype {x.dtype}, expected that of queries, {queries.dtype}")
            if x.device != queries.device:
                raise ValueError(f"{argument} is on {x.device}, expected the device of queries, {queries.device}")
            if 0 in x.shape:
                raise ValueError(f"{argument} has shape {tuple(x.shape)}, expected no empty dimension")
        batch, heads, time, dim = queries.shape
        if keys.shape[:2] != (batch, heads) or keys.shape[3] != dim:
            raise ValueError(f"keys has shape {tuple(keys.shape)}, expected ({batch}, {heads}, time, {dim}) as queries")
        if values.shape[:3] != keys.shape[:3]:
            expected = ", ".join(str(size) for size in keys.shape[:3])
            raise ValueError(f"values has shape {tuple(values.shape)}, expected ({expected}, value dim) as keys")
        if self.shared_qk and not _same(queries, keys):
            raise ValueError(f"keys is not queries: {self.name} needs one tensor for both, from a shared projection")
        if self.shared_qk and key_lengths is not None:
            raise ValueError(f"key_lengths is given, expected None: {self.name} attends to its own sequence only")
        if key_lengths is None and keys.shape[2] != time:
            raise ValueError(
                f"key_lengths is None, expected lengths of keys: queries have time {time}, keys {keys.shape[2]}"
            )
        _check_lengths("lengths", lengths, batch, time)
        _check_lengths("key_lengths", key_lengths, batch, keys.shape[2])
        key_lengths = lengths if key_lengths is None else key_lengths
        return _unless_all(lengths, time), _unless_all(key_lengths, keys.shape[2])


def _check_lengths(argument: str, lengths: Tensor | None, batch: int, time: int) -> None:
    if lengths is None:
        return
    if lengths.shape != (batch,) or lengths.dtype != torch.int64:
        raise ValueError(
            f"{argument} has shape {tuple(lengths.shape)} and dtype {lengths.dtype}, expected ({batch},) int64"
        )
    # Reading lengths on a GPU would synchronize.
    if lengths.device.type == "cpu" and not bool(((lengths >= 0) & (lengths <= time)).all()):
        raise ValueError(f"{argument} is {lengths.tolist()}, expected values from 0 to the time, {time}")


def _same(queries: Tensor, keys: Tensor) -> bool:
    return keys is queries or (
        keys.data_ptr() == queries.data_ptr() and keys.shape == queries.shape and keys.stride() == queries.stride()
    )


def _unless_all(lengths: Tensor | None, time: int) -> Tensor | None:
    """`lengths`, or None if nothing is padded and that can be told without waiting for a GPU."""
    if lengths is None or lengths.device.type != "cpu":
        return lengths
    return None if bool((lengths == time).all()) else lengths


def _on_device(lengths: Tensor | None, device: torch.device) -> Tensor | None:
    return None if lengths is None else lengths.to(device, non_blocking=True)
