"""The processes of one job: which of them this is, how they are launched, and how the death of one ends all with its reason."""

from __future__ import annotations

import abc
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from asr.errors import Stopped, UserError
from asr.runtime.called import call_again
from asr.runtime.processors import users_environment

BEAT_SECONDS = 1.0
# silent for this long: presumed dead; the job still ends, with a reason, within a minute
PATIENCE_SECONDS = 30.0
# time for the others to report why they stop, once one process has failed
GRACE_SECONDS = 10.0


class World(NamedTuple):
    """The rank of this process, the number of processes in the job, and the rank among those on this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0


def current_world() -> World:
    """The world that torchrun, SLURM or `launch` set up; a single process if none did."""
    environment = os.environ
    if {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= environment.keys():
        return World(*(int(environment[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    # a batch script sees SLURM_NTASKS as well; only srun's own children are in a step of several tasks
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "SLURM_PROCID" in environment:
        return World(*(int(environment[name]) for name in ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")))
    return World()


def launch(processes: int, arguments: list[str]) -> None:
    """Runs this program with `arguments` in several processes on this machine and waits for them.

    Only rank 0 prints; the standard error of another rank is shown if that rank alone fails. Signals are passed on to all.
    When one process dies, the others have `GRACE_SECONDS` to report why they stop, then they are killed. Raises SystemExit
    with the exit code of the first that failed.
    """
    environment = {
        **users_environment(), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes), "NODE_RANK": "0",
    }  # fmt: skip
    errors = {rank: tempfile.TemporaryFile() for rank in range(1, processes)}
    children = [
        subprocess.Popen(
            [*call_again(), *arguments],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=None if rank == 0 else subprocess.DEVNULL,
            stderr=errors.get(rank),
            # otherwise the terminal's Ctrl-C would reach each process twice: directly and through us
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        for rank in range(processes)
    ]
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    for number in before:
        signal.signal(number, lambda received, _frame: send_signal(children, received))
    try:
        rank, code = wait_for(children)
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
    if code == 0:
        return
    if rank > 0 and children[0].returncode in (0, -signal.SIGKILL):
        errors[rank].seek(0)
        sys.stderr.write(errors[rank].read().decode(errors="replace"))
    if code < 0:
        print(f"Process {rank} of {processes} was ended by {signal.Signals(-code).name}.", file=sys.stderr)
    raise SystemExit(code if code > 0 else 128 - code)


def wait_for(children: list[subprocess.Popen]) -> tuple[int, int]:
    """(rank, exit code) of the first that failed, once all have ended or the grace period is over; (0, 0) if none failed."""
    failed: tuple[int, int] | None = None
    deadline = float("inf")
    while True:
        codes = [child.poll() for child in children]
        bad = [(rank, code) for rank, code in enumerate(codes) if code]
        if bad and failed is None:
            failed, deadline = bad[0], time.monotonic() + GRACE_SECONDS
        if None not in codes or time.monotonic() > deadline:
            return failed or (0, 0)
        time.sleep(0.1)


def send_signal(children: list[subprocess.Popen], number: int) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(number)


def end_with_parent() -> None:
    """Has Linux send SIGTERM to this process when its parent dies (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class ProcessGroup(abc.ABC):
    """The processes of one job, as each of them sees it."""

    world: World

    @property
    def rank(self) -> int:
        return self.world.rank

    @property
    def size(self) -> int:
        return self.world.size

    @abc.abstractmethod
    def broadcast(self, thing: Any) -> Any:
        """Returns on every rank what rank 0 passes."""

    @abc.abstractmethod
    def rank_zero_first(self, function: Callable[[], Any]) -> Any:
        """Calls `function` on rank 0, then on the others, which find what it left on the disk. It may take hours."""


class SingleProcess(ProcessGroup):
    """A job of one process."""

    world = World()

    def broadcast(self, thing: Any) -> Any:
        return thing

    def rank_zero_first(self, function: Callable[[], Any]) -> Any:
        return function()


class DistributedGroup(ProcessGroup):
    """Processes joined by torch.distributed, with a heartbeat.

    Every second each process reports that it is alive, in a store kept by rank 0. A process that fails leaves its reason there;
    one that is killed falls silent. Either ends all others within half a minute, with that rank's reason.
    """

    def __init__(self, world: World, backend: str):
        """backend: of torch.distributed, "gloo" or "nccl"."""
        import datetime

        import torch.distributed as distributed

        self.world = world
        # the longest that a collective waits for a slow disk or network
        distributed.init_process_group(backend, timeout=datetime.timedelta(minutes=30))
        host = os.environ["MASTER_ADDR"]
        store = distributed.TCPStore(host, 0, world.size, True, wait_for_workers=False) if not world.rank else None
        port = self.broadcast(store.port if store else None)
        self._store = store or distributed.TCPStore(host, port, world.size, False, wait_for_workers=False)
        self._turns, self._over = 0, threading.Event()
        self._store.set(f"beat/{world.rank}", "0")
        distributed.barrier()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def broadcast(self, thing: Any) -> Any:
        """See `ProcessGroup.broadcast`; things are pickled."""
        import torch.distributed as distributed

        things = [thing]
        distributed.broadcast_object_list(things)
        return things[0]

    def rank_zero_first(self, function: Callable[[], Any]) -> Any:
        """See `ProcessGroup.rank_zero_first`."""
        self._turns += 1
        turn = f"turn/{self._turns}"
        if self.rank == 0:
            result = function()
            self._store.set(turn, "over")
            return result
        # polled, as a blocking wait would keep the heartbeat from using the store
        while not self._store.check([turn]):
            time.sleep(0.1)
        return function()

    def leave(self) -> None:
        """Ends the heartbeat of a process whose work is done."""
        import torch.distributed as distributed

        self._over.set()
        self._thread.join(timeout=5)
        self._store.set(f"beat/{self.rank}", "done")
        if self.rank == 0:
            self._wait_for_others()
        distributed.destroy_process_group()

    def fail(self, reason: str) -> None:
        """Reports to the others why this process ends."""
        self._over.set()
        try:
            self._store.set(f"beat/{self.rank}", f"failed {reason}")
            if self.rank == 0:
                self._wait_for_others()
        except RuntimeError:
            pass  # rank 0 and its store are already gone

    def _wait_for_others(self) -> None:
        # the store must outlive its readers
        deadline = time.monotonic() + 5 * BEAT_SECONDS
        names = [f"beat/{rank}" for rank in range(1, self.size)]
        while time.monotonic() < deadline:
            values = [value.decode() for value in self._store.multi_get(names)]
            if all(value == "done" or value.startswith("failed") for value in values):
                return
            time.sleep(0.05)

    def _beat(self) -> None:
        others = {rank: ("", time.monotonic()) for rank in range(self.size) if rank != self.rank}
        count = 0
        while not self._over.wait(BEAT_SECONDS):
            count += 1
            try:
                self._store.set(f"beat/{self.rank}", str(count))
                values = self._store.multi_get([f"beat/{rank}" for rank in others])
            except RuntimeError:
                self._end("process 0 is gone, and the job with it.")
                return
            now = time.monotonic()
            for rank, beat in zip(list(others), values):
                value = beat.decode()
                if value.startswith("failed"):
                    self._end(f"process {rank} stopped: {value.removeprefix('failed ')}")
                elif value == "done" or value != others[rank][0]:
                    others[rank] = (value, now)
                elif now - others[rank][1] > PATIENCE_SECONDS:
                    silence = f"{PATIENCE_SECONDS:.0f} s"
                    self._end(f"process {rank} has been silent for {silence}: it was killed, or its machine is gone.")

    def _end(self, reason: str) -> None:
        # this process may be about to report an error of its own
        if self._over.wait(3 * BEAT_SECONDS):
            return
        print(f"process {self.rank} of {self.size} ends because {reason}", file=sys.stderr, flush=True)
        # the main thread may be stuck in a collective
        os._exit(1)


@contextmanager
def joined(accelerator: str, wanted: int) -> Iterator[ProcessGroup]:
    """Joins the processes of this job for the duration of the block. Raises UserError unless there are `wanted` of them."""
    world = current_world()
    if world.size != wanted:
        raise UserError(
            f"{world.size} processes were started, but trainer.devices times trainer.num_nodes is {wanted}: make them equal."
        )
    if world.size == 1:
        yield SingleProcess()
        return
    find_address()
    import torch

    from asr.runtime.devices import on_gpu

    gpu = on_gpu(accelerator)
    if gpu:
        torch.cuda.set_device(world.local_rank)
    group = DistributedGroup(world, "nccl" if gpu else "gloo")
    try:
        yield group
    except Stopped:
        group.leave()
        raise
    except BaseException as error:
        if is_lost_connection(error):
            # another process is gone; the heartbeat will end this one and report which, and why
            time.sleep(PATIENCE_SECONDS + 5 * BEAT_SECONDS)
        group.fail(reason_of(error))
        raise
    group.leave()


def find_address() -> None:
    """Sets the rendezvous address under SLURM, which leaves that to its programs."""
    if "MASTER_ADDR" not in os.environ:
        from lightning.pytorch.plugins.environments import SLURMEnvironment

        environment = SLURMEnvironment(auto_requeue=False)
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
        world = current_world()
        os.environ |= {"RANK": str(world.rank), "WORLD_SIZE": str(world.size), "LOCAL_RANK": str(world.local_rank)}


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error tells only that another process is gone."""
    import torch.distributed as distributed

    message = str(error).lower()
    lost = ("gloo", "nccl", "connection closed by peer", "connection reset", "broken pipe")
    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and any(word in message for word in lost)
    )


def reason_of(error: BaseException) -> str:
    """One line for the other processes."""
    first = (str(error).strip().splitlines() or [""])[0]
    return first if isinstance(error, UserError) else f"{type(error).__name__}: {first}"
