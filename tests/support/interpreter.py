"""What Triton's interpreter lacks as a stand-in for a GPU: bfloat16 that is right, and programs that run at the same time.

The interpreter runs one program after the other, so it never shows two that race. `order_of_programs` runs them in another order,
or interleaved: a dozen at a time, each stopped at random before a load, a store, an atomic or a barrier to let another one go on.
Leans on internals of Triton 3.6 to 3.8; import it only where TRITON_INTERPRET is 1.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import itertools
import random
import threading
from collections.abc import Callable, Iterator

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

ORDERS = ("sequential", "reversed", "shuffled", "interleaved")
# Programs that are under way at the same time, and how often one that could be stopped is.
WIDTH, STOPPED = 12, 0.5
# Where it can be, and how often it then waits for long: before an atomic, as that is how programs talk to each other.
STOPS = {
    "create_masked_load": 0.05, "create_masked_store": 0.05, "create_barrier": 0.05,
    "create_atomic_rmw": 0.5, "create_atomic_cas": 0.5,
}  # fmt: skip
CASTS = ("create_si_to_fp", "create_ui_to_fp", "create_fp_to_si", "create_fp_to_ui", "create_fp_ext", "create_fp_trunc")

_builder = interpreter.interpreter_builder
_order, _random = "sequential", random.Random(0)
_turns: Turns | None = None


class Turns:
    """Programs of one launch that take turns, each in a thread of its own; one runs at a time."""

    def __init__(self, places: list[tuple[int, int, int]], run: Callable[[], None], generator: random.Random) -> None:
        self.places, self.run, self.random = iter(places), run, generator
        self.live: dict[tuple[int, int, int], threading.Semaphore] = {}
        # What a race needs is a program that is far behind: these wait until there are no others.
        self.held: set[tuple[int, int, int]] = set()
        self.mine = threading.local()
        self.all_done = threading.Event()
        self.error: BaseException | None = None

    def run_all(self) -> None:
        for _ in range(WIDTH):
            self._begin_another()
        self._let_one_go_on()
        self.all_done.wait()
        if self.error is not None:
            raise self.error

    def maybe_stop(self, held: float) -> None:
        """Called by the running program wherever another one could come between. held: how likely it then waits for long."""
        if self.random.random() < STOPPED:
            here = self.mine.place
            if self.random.random() < held:
                self.held.add(here)
            self._let_one_go_on()
            self.live[here].acquire()
            if self.error is not None:
                raise SystemExit

    def _begin_another(self) -> None:
        place = next(self.places, None)
        if place is not None:
            self.live[place] = threading.Semaphore(0)
            threading.Thread(target=self._program, args=(place,), daemon=True).start()

    def _let_one_go_on(self) -> None:
        place = self.random.choice([place for place in self.live if place not in self.held] or list(self.live))
        self.held.discard(place)
        _builder.set_grid_idx(*place)
        self.live[place].release()

    def _program(self, place: tuple[int, int, int]) -> None:
        self.mine.place = place
        self.live[place].acquire()
        try:
            if self.error is None:
                self.run()
        except SystemExit:
            pass
        except BaseException as error:
            self.error = error
        del self.live[place]
        if self.error is None:
            self._begin_another()
        if self.live:
            self._let_one_go_on()
        else:
            self.all_done.set()


@contextlib.contextmanager
def order_of_programs(order: str, seed: int = 0) -> Iterator[None]:
    """Launches run their programs in one of `ORDERS` for as long as this is entered; the same seed gives the same order."""
    global _order, _random
    if order not in ORDERS:
        raise ValueError(f"order is {order!r}, expected one of {', '.join(ORDERS)}")
    before = _order, _random
    _order, _random = order, random.Random(seed)
    try:
        yield
    finally:
        _order, _random = before


def _run_programs(executor: interpreter.GridExecutor, *arguments: object, **keywords: object) -> None:
    """In the place of `GridExecutor.__call__`, for tensors on a CPU."""
    global _turns
    wanted = {name: value for name, value in keywords.items() if name in executor.arg_names}
    scope = interpreter._patch_lang(executor.fn)
    try:
        named = inspect.getcallargs(executor.fn, *arguments, **wanted)
        named = {
            name: value if name in executor.constexprs else interpreter._implicit_cvt(value)
            for name, value in named.items()
        }
        grid = executor.grid(named) if callable(executor.grid) else executor.grid
        grid = (*grid, 1, 1)[:3]
        _builder.set_grid_dim(*grid)
        places = list(itertools.product(*map(range, grid)))
        if _order == "reversed":
            places.reverse()
        elif _order != "sequential":
            _random.shuffle(places)
        if _order == "interleaved" and len(places) > 1:
            _turns = Turns(places, lambda: executor.fn(**named), _random)
            _turns.run_all()
        else:
            for place in places:
                _builder.set_grid_idx(*place)
                executor.fn(**named)
    finally:
        _turns = None
        scope.restore()


def _stopping(method: Callable, held: float) -> Callable:
    def call(*arguments: object, **keywords: object) -> object:
        if _turns is not None:
            _turns.maybe_stop(held)
        return method(*arguments, **keywords)

    return call


def _values(handle: interpreter.TensorHandle) -> np.ndarray:
    """Numbers as NumPy has them; bfloat16, which the interpreter keeps as its bits, as float32."""
    if handle.dtype.scalar != tl.bfloat16:
        return handle.data
    return (handle.data.astype(np.uint32) << 16).view(np.float32)


def _bits_of_bfloat16(values: np.ndarray) -> np.ndarray:
    """The bits of values rounded to bfloat16, to nearest even as a GPU does; NaN stays NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


def _dot(builder: object, a, b, sums, precision: object, imprecise: object) -> interpreter.TensorHandle:
    """Products of half precision are exact in float32, as on tensor cores."""
    product = np.matmul(_values(a), _values(b), dtype=sums.data.dtype)
    return interpreter.TensorHandle(product + sums.data, sums.dtype.scalar)


def _casting(method: Callable) -> Callable:
    def cast(builder: object, source, target, *rest: object) -> interpreter.TensorHandle:
        if target.scalar == tl.bfloat16:
            return interpreter.TensorHandle(_bits_of_bfloat16(_values(source)), tl.bfloat16)
        if source.dtype.scalar == tl.bfloat16:
            return interpreter.TensorHandle(_values(source).astype(interpreter._get_np_dtype(target)), target.scalar)
        return method(builder, source, target, *rest)

    return cast


def _install() -> None:
    kind = type(_builder)
    for name, held in STOPS.items():
        setattr(kind, name, _stopping(getattr(kind, name), held))
    for name in CASTS:
        setattr(kind, name, _casting(getattr(kind, name)))
    kind.create_dot = _dot
    # `tl.device_assert` holds, as with TRITON_DEBUG=1.
    _builder.options = dataclasses.replace(_builder.options, debug=True, sanitize_overflow=False)
    interpreter.GridExecutor.__call__ = _run_programs


_install()
