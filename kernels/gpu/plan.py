"""Passes that are remembered: met a third time, a shape costs the host little more than its launches.

Triton looks at every argument of every launch, and PyTorch allocates every table by itself; at 2,000 steps that takes longer than
the kernels run. Yet all of it follows from the shapes. So a pass is recorded once: which kernels it launched, on which memory,
and for how long it needed that. From then on there is one allocation besides the outputs, and launches of compiled kernels
whose pointers are filled in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from asr.kernels.gpu import launch

# Triton compiles for pointers that are multiples of 16; a cache line is more than that.
ALIGNED = 256
MOST_PLANS = 1024

_EMPTY = {"aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty", "aten::new_empty_strided"}
_ZERO = {"aten::zeros", "aten::zeros_like", "aten::new_zeros"}
_COPY = {"aten::_to_copy", "aten::to", "aten::clone", "aten::contiguous"}


Outputs = TypeVar("Outputs", bound=tuple[Tensor, ...])


class Pointer(NamedTuple):
    """`offset` bytes into an argument, an output or the scratch memory of a pass, which `memory` numbers in this order."""

    memory: int
    offset: int
    dtype: torch.dtype


class Call(NamedTuple):
    """Something to be run: `run(*arguments)`, of which those at `places` are pointers, `times` times."""

    run: Callable[..., object]
    arguments: list[Any]
    places: list[tuple[int, Pointer]]
    times: int


class Copy(NamedTuple):
    """What PyTorch itself is asked for: `target` becomes zero, or what `source` is. Size and strides in elements."""

    target: tuple[Pointer, torch.Size, tuple[int, ...]]
    source: tuple[Pointer, torch.Size, tuple[int, ...]] | None


class Plan(NamedTuple):
    outputs: list[tuple[torch.Size, tuple[int, ...], torch.dtype]]
    scratch: int
    steps: list[Call | Copy]
    device: torch.device

    def replay(self, tensors: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """The pass over other tensors of the same shapes."""
        device = self.device
        outputs = tuple(
            torch.empty_strided(size, stride, dtype=dtype, device=device) for size, stride, dtype in self.outputs
        )
        memories = [*tensors, *outputs, torch.empty(self.scratch, dtype=torch.uint8, device=device)]
        starts = [0 if memory is None else memory.data_ptr() for memory in memories]
        with launch.on(device):
            for step in self.steps:
                if isinstance(step, Copy):
                    target = _view(memories, *step.target)
                    target.zero_() if step.source is None else target.copy_(_view(memories, *step.source))
                    continue
                arguments = step.arguments.copy()
                for place, pointer in step.places:
                    arguments[place] = starts[pointer.memory] + pointer.offset
                if launch.INTERPRETED:
                    for place, pointer in step.places:
                        arguments[place] = _view(memories, pointer, torch.Size([1]), (1,))
                for _ in range(step.times):
                    step.run(*arguments)
        return outputs


def _view(memories: list[Any], pointer: Pointer, size: torch.Size, stride: tuple[int, ...]) -> Tensor:
    """What lies there as a tensor."""
    memory = memories[pointer.memory]
    raw = torch.empty(0, dtype=pointer.dtype, device=memory.device)
    start = memory.storage_offset() * memory.element_size() + pointer.offset
    return raw.set_(memory.untyped_storage(), start // pointer.dtype.itemsize, size, stride)


class _Recording(TorchDispatchMode):
    """Runs a pass, and writes down what it does with memory; `launch` reports to it as well."""

    def __init__(self, tensors: Sequence[Tensor | None]) -> None:
        super().__init__()
        self.tensors = tensors
        self.storages = {_storage(x) for x in tensors if x is not None}
        self.made: dict[int, Tensor] = {}
        # (run, grid and arguments, times) of launches, (target, source) of copies.
        self.steps: list[tuple[Any, list[Any], int] | tuple[Tensor, Tensor | None]] = []
        self.known = True

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        result = function(*arguments, **(keywords or {}))
        results = result if isinstance(result, tuple | list) else [result]
        new = [x for x in results if isinstance(x, Tensor) and _storage(x) not in self.storages]
        name = function._schema.name
        if function._schema.is_mutable or (new and name not in _EMPTY | _ZERO | _COPY):
            self.known = False
        for x in new:
            self.storages.add(_storage(x))
            self.made[_storage(x)] = x
            if name not in _EMPTY:
                self.steps.append((x, arguments[0] if name in _COPY else None))
        return result

    def launched(self, run: Callable[..., object], arguments: list[Any], times: int) -> None:
        self.steps.append((run, arguments, times))

    def plan(self, outputs: tuple[Tensor, ...]) -> Plan | None:
        """None if the pass did what cannot be repeated blindly."""
        numbers: dict[int, int] = {}
        for number, output in enumerate(outputs, len(self.tensors)):
            numbers[_storage(output)] = number
            if output.storage_offset() != 0 or _storage(output) not in self.made:
                self.known = False
        if not self.known or len(numbers) < len(outputs):
            return None
        offsets, scratch = self._packed([storage for storage in self.made if storage not in numbers])
        last = len(self.tensors) + len(outputs)

        def pointer(x: Tensor) -> Pointer:
            # Of another shape, it may be a view of one.
            found = [number for number, tensor in enumerate(self.tensors) if x is tensor] or [
                number
                for number, tensor in enumerate(self.tensors)
                if tensor is not None and x.data_ptr() == tensor.data_ptr() and x.numel()
            ]
            if found:
                return Pointer(found[0], 0, x.dtype)
            storage = _storage(x)
            offset = int(x.storage_offset()) * x.element_size()
            if storage in numbers:
                return Pointer(numbers[storage], offset, x.dtype)
            return Pointer(last, offsets[storage] + offset, x.dtype)

        try:
            steps = [_finished(step, pointer) for step in self.steps]
        except KeyError:
            return None
        sizes = [(output.shape, output.stride(), output.dtype) for output in outputs]
        return Plan(sizes, scratch, steps, outputs[0].device)

    def _packed(self, storages: list[int]) -> tuple[dict[int, int], int]:
        """Where each lies in the scratch memory, of which they share what they do not need at the same time; its bytes."""
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for number, step in enumerate(self.steps):
            for x in (*step, *step[1]) if isinstance(step[1], list) else step:
                if isinstance(x, Tensor):
                    first.setdefault(_storage(x), number)
                    last[_storage(x)] = number
        placed: list[tuple[int, int, int, int]] = []
        offsets = {}
        for storage in sorted(storages, key=lambda storage: -self.made[storage].untyped_storage().nbytes()):
            size = -(-self.made[storage].untyped_storage().nbytes() // ALIGNED) * ALIGNED
            begin, end = first.get(storage, 0), last.get(storage, 0)
            at = 0
            for low, high, other_begin, other_end in sorted(placed):
                if begin <= other_end and other_begin <= end and at < high and low < at + size:
                    at = high
            offsets[storage] = at
            placed.append((at, at + size, begin, end))
        return offsets, max((high for _, high, _, _ in placed), default=0)


def _finished(step: Any, pointer: Callable[[Tensor], Pointer]) -> Call | Copy:
    if isinstance(step[0], Tensor):
        target, source = (None if x is None else (pointer(x), x.shape, x.stride()) for x in step)
        assert target is not None
        return Copy(target, source)
    run, arguments, times = step
    places = [(place, pointer(x)) for place, x in enumerate(arguments) if isinstance(x, Tensor)]
    return Call(run, [None if isinstance(x, Tensor) else x for x in arguments], places, times)


def _storage(x: Tensor) -> int:
    return x.untyped_storage()._cdata


# Plans by what they follow from; False for what was met once, None for what cannot be planned.
_plans: OrderedDict[Hashable, Plan | None | bool] = OrderedDict()


def planned(body: Callable[..., Outputs], tensors: Sequence[Tensor | None], *settings: Hashable) -> Outputs:
    """`body(*tensors, *settings)`, from its plan if this is at least the third time for these shapes.

    body: what it launches and allocates must follow from shapes, strides, dtypes and settings; what it returns it has made.
    """
    if launch.is_recorded():
        return body(*tensors, *settings)
    # Which of them are the same tensor matters: a plan says which one a kernel is given.
    identities = [id(x) for x in tensors]
    same = tuple(map(identities.index, identities))
    key = (body, settings, same, tuple(None if x is None else _kind(x) for x in tensors))
    plan = _plans.get(key)
    if isinstance(plan, Plan):
        return cast(Outputs, plan.replay(tensors))
    if plan is None:
        if key not in _plans:
            _plans[key] = False
            while len(_plans) > MOST_PLANS:
                _plans.popitem(last=False)
        return body(*tensors, *settings)
    recording = _Recording(tensors)
    with recording, launch.reporting_to(recording.launched):
        outputs = body(*tensors, *settings)
    _plans[key] = recording.plan(outputs)
    return outputs


def _kind(x: Tensor) -> Hashable:
    return x.shape, x.stride(), x.dtype, x.device, x.data_ptr() % 16 == 0


def forget_plans() -> None:
    """For tests, which exchange kernels."""
    _plans.clear()
