"""Several processes: which one this is, how they are started, and how the death of one ends them all with its reason."""

from __future__ import annotations

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
from asr.runtime.processors import users_environment

BEAT_SECONDS = 1.0
# a process that has not been heard of for so long is taken for dead; "within a minute" leaves time to say so
PATIENCE_SECONDS = 30.0
GRACE_SECONDS = 10.0


class Place(NamedTuple):
    """Which of how many processes this is, and which on its machine."""

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0


def place() -> Place:
    """This process among those that torchrun, SLURM or `launch` started; alone if none did."""
    environment = os.environ
    if {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= environment.keys():
        return Place(*(int(environment[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    # a batch script has SLURM_NTASKS too, but only what srun starts belongs to a step of several tasks
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "SLURM_PROCID" in environment:
        return Place(*(int(environment[name]) for name in ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")))
    return Place()


def launch(processes: int, arguments: list[str]) -> None:
    """Runs this program with `arguments` in several processes on this machine, and ends as they end.

    Only rank 0 speaks; what another says on standard error is shown when it fails alone. A signal goes on to all of them. When
    one dies, the others get a few seconds to say why they stop, and are ended then. Raises SystemExit with the code of
    the first that failed.
    """
    environment = {
        **users_environment(), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes), "NODE_RANK": "0",
    }  # fmt: skip
    said = [None] + [tempfile.TemporaryFile() for _ in range(1, processes)]
    children = [
        subprocess.Popen(
            [sys.executable, sys.argv[0], *arguments],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=None if rank == 0 else subprocess.DEVNULL,
            stderr=said[rank],
            # a terminal's Ctrl-C comes here and is handed on once
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        for rank in range(processes)
    ]
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    for number in before:
        signal.signal(number, lambda received, _frame: tell(children, received))
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
        said[rank].seek(0)
        sys.stderr.write(said[rank].read().decode(errors="replace"))
    if code < 0:
        print(f"Process {rank} of {processes} was ended by {signal.Signals(-code).name}.", file=sys.stderr)
    raise SystemExit(code if code > 0 else 128 - code)


def wait_for(children: list[subprocess.Popen]) -> tuple[int, int]:
    """(rank, exit code) of the first that failed, (0, 0) if none did; waits for the others a while."""
    failed, deadline = None, None
    while True:
        codes = [child.poll() for child in children]
        bad = [(rank, code) for rank, code in enumerate(codes) if code not in (None, 0)]
        if bad and failed is None:
            failed, deadline = bad[0], time.monotonic() + GRACE_SECONDS
        if None not in codes or (deadline is not None and time.monotonic() > deadline):
            return failed or (0, 0)
        time.sleep(0.1)


def tell(children: list[subprocess.Popen], number: int) -> None:
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


class Alone:
    """What `Together` is for a single process."""

    place = Place()

    def first(self, function: Callable[[], Any]) -> Any:
        return function()

    def share(self, thing: Any) -> Any:
        return thing


class Together:
    """The processes of one job, joined: a process group for tensors, and a heartbeat.

    Each process tells the others every second that it lives, through a store that rank 0 keeps. One that fails says why, one
    that is killed falls silent: either ends all others within half a minute, with that rank's reason.
    """

    def __init__(self, where: Place, backend: str):
        """backend: of torch.distributed, "gloo" or "nccl"."""
        import datetime

        import torch.distributed as distributed

        self.place = where
        # no collective waits for a user's disk or network for longer than that
        distributed.init_process_group(backend, timeout=datetime.timedelta(minutes=30))
        host = os.environ["MASTER_ADDR"]
        self._store = (
            distributed.TCPStore(host, 0, where.ranks, True, wait_for_workers=False) if not where.rank else None
        )
        port = self.share(self._store.port if self._store else None)
        if self._store is None:
            self._store = distributed.TCPStore(host, port, where.ranks, False, wait_for_workers=False)
        self._turns, self._over = 0, threading.Event()
        self._store.set(f"beat/{where.rank}", "0")
        distributed.barrier()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def share(self, thing: Any) -> Any:
        """What rank 0 passes here, on every rank."""
        import torch.distributed as distributed

        things = [thing]
        distributed.broadcast_object_list(things)
        return things[0]

    def first(self, function: Callable[[], Any]) -> Any:
        """Calls `function` on rank 0, and then on the others, who find what it has left on disk. It may take hours."""
        self._turns += 1
        turn = f"turn/{self._turns}"
        if self.place.rank == 0:
            result = function()
            self._store.set(turn, "over")
            return result
        # asking now and then, so that the heartbeat can use the store in between
        while not self._store.check([turn]):
            time.sleep(0.1)
        return function()

    def leave(self) -> None:
        """Ends the heartbeat of a process that has done its work."""
        import torch.distributed as distributed

        self._over.set()
        self._thread.join(timeout=5)
        self._store.set(f"beat/{self.place.rank}", "done")
        if self.place.rank == 0:
            self._wait_for_others()
        distributed.destroy_process_group()

    def fail(self, reason: str) -> None:
        """Tells the others why this process ends."""
        self._over.set()
        try:
            self._store.set(f"beat/{self.place.rank}", f"failed {reason}")
            if self.place.rank == 0:
                self._wait_for_others()
        except RuntimeError:
            # rank 0 and its store are gone already
            pass

    def _wait_for_others(self) -> None:
        # the store must outlive those who read from it
        deadline = time.monotonic() + 5 * BEAT_SECONDS
        names = [f"beat/{rank}" for rank in range(1, self.place.ranks)]
        while time.monotonic() < deadline:
            values = [value.decode() for value in self._store.multi_get(names)]
            if all(value == "done" or value.startswith("failed") for value in values):
                return
            time.sleep(0.05)

    def _beat(self) -> None:
        others = {rank: ("", time.monotonic()) for rank in range(self.place.ranks) if rank != self.place.rank}
        count = 0
        while not self._over.wait(BEAT_SECONDS):
            count += 1
            try:
                self._store.set(f"beat/{self.place.rank}", str(count))
                values = self._store.multi_get([f"beat/{rank}" for rank in others])
            except RuntimeError:
                self._end("process 0 is gone, and with it the job.")
                return
            now = time.monotonic()
            for rank, value in zip(list(others), values):
                value = value.decode()
                if value.startswith("failed"):
                    self._end(f"process {rank} stopped: {value.removeprefix('failed ')}")
                elif value == "done" or value != others[rank][0]:
                    others[rank] = (value, now)
                elif now - others[rank][1] > PATIENCE_SECONDS:
                    silence = f"{PATIENCE_SECONDS:.0f} s"
                    self._end(f"process {rank} has not been heard of for {silence}: killed, or its machine is gone.")

    def _end(self, reason: str) -> None:
        # this process may be about to end with a sentence of its own
        if self._over.wait(3 * BEAT_SECONDS):
            return
        print(f"process {self.place.rank} of {self.place.ranks} ends because {reason}", file=sys.stderr, flush=True)
        # the main thread may wait in a collective that never ends
        os._exit(1)


@contextmanager
def joined(accelerator: str, wanted: int) -> Iterator[Alone | Together]:
    """The processes that this one belongs to, for the time of the block. Raises UserError if there are not `wanted` of them."""
    where = place()
    if where.ranks != wanted:
        raise UserError(
            f"{where.ranks} processes were started, but trainer.devices times trainer.num_nodes is {wanted}: make them equal."
        )
    if where.ranks == 1:
        yield Alone()
        return
    find_address()
    import torch

    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(where.local_rank)
    together = Together(where, "nccl" if on_gpu else "gloo")
    try:
        yield together
    except Stopped:
        together.leave()
        raise
    except BaseException as error:
        if is_of_communication(error):
            # another process is gone: the heartbeat knows which, and why
            time.sleep(PATIENCE_SECONDS + 5 * BEAT_SECONDS)
        together.fail(reason_of(error))
        raise
    together.leave()


def find_address() -> None:
    """Sets where the processes meet, under SLURM, which does not say so itself."""
    if "MASTER_ADDR" not in os.environ:
        from lightning.pytorch.plugins.environments import SLURMEnvironment

        environment = SLURMEnvironment(auto_requeue=False)
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
        where = place()
        os.environ |= {"RANK": str(where.rank), "WORLD_SIZE": str(where.ranks), "LOCAL_RANK": str(where.local_rank)}


def is_of_communication(error: BaseException) -> bool:
    import torch.distributed as distributed

    said = str(error).lower()
    lost = ("gloo", "nccl", "connection closed by peer", "connection reset", "broken pipe")
    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and any(word in said for word in lost)
    )


def reason_of(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return first if isinstance(error, UserError) else f"{type(error).__name__}: {first}"
