"""A good checkpoint always exists: a failed write leaves the old one, and a damaged one is passed over."""

import contextlib
import os
import pickle
import resource
import signal

import pytest
import torch

from asr.errors import UserError
from asr.training.checkpoints import LAST, PREVIOUS, WholeCheckpoints, keep_previous, write_checkpoint
from asr.training.resuming import last_checkpoint

PLANTED = []
POSITION = {
    "batches": 4, "steps": 4, "seconds": 1.5, "audio_seconds": 20.0, "validations": 1, "validated": 3, "best": 0.5,
    "best_step": 3, "candidates": [[0.5, 3]], "validation_due": False, "over": False,
}  # fmt: skip


def leave_a_trace():
    PLANTED.append("ran")


class Bomb:
    """Unpickling this runs code, which leaves a trace here."""

    def __reduce__(self):
        return leave_a_trace, ()


@contextlib.contextmanager
def room_for(size):
    """No file may grow beyond `size` bytes: writes fail there, as on a full disk."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def checkpoint(steps=4, size=10, **more):
    carried = {"position": {**POSITION, "steps": steps}, "plan": {"ranks": 1}}
    return {"state_dict": {"weight": torch.full((size,), 1.0)}, "optimizer_states": [], "asr": carried, **more}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run" / "checkpoints"


@pytest.mark.parametrize("room", [0, 1, 900, 20_000, 300_000])
def test_a_write_that_fails_half_way_leaves_the_old_file_whole_and_no_other(folder, room):
    write_checkpoint(folder / LAST, checkpoint(steps=1))
    before = (folder / LAST).read_bytes()
    with room_for(room), pytest.raises(UserError) as refused:
        write_checkpoint(folder / LAST, checkpoint(steps=2, size=100_000))
    assert os.listdir(folder) == [LAST] and (folder / LAST).read_bytes() == before
    assert str(refused.value) == (
        f"The checkpoint {folder / LAST} cannot be written: File too large. The one before it is whole: "
        f"make room, then resume={folder.parent}"
    )
    write_checkpoint(folder / LAST, checkpoint(steps=2, size=100_000))
    assert last_checkpoint(folder.parent)[1]["asr"]["position"]["steps"] == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_reported(folder):
    write_checkpoint(folder / LAST, checkpoint())
    folder.chmod(0o500)
    with pytest.raises(UserError, match="Permission denied"):
        write_checkpoint(folder / LAST, checkpoint())
    folder.chmod(0o700)


def test_a_process_killed_while_writing_leaves_the_old_file(folder):
    write_checkpoint(folder / LAST, checkpoint(steps=1))

    class Killer:
        def __reduce__(self):
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        write_checkpoint(folder / LAST, checkpoint(steps=2, size=100_000, killer=Killer()))
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert last_checkpoint(folder.parent)[1]["asr"]["position"]["steps"] == 1
    write_checkpoint(folder / LAST, checkpoint(steps=3))
    assert os.listdir(folder) == [LAST]


def test_the_checkpoint_before_the_last_is_kept_and_is_a_file_of_its_own(folder):
    keep = WholeCheckpoints()
    for steps in (1, 2, 3):
        keep.save_checkpoint(checkpoint(steps), str(folder / LAST))
    assert {name: torch.load(folder / name)["asr"]["position"]["steps"] for name in sorted(os.listdir(folder))} == {
        LAST: 3, PREVIOUS: 2,
    }  # fmt: skip
    (folder / LAST).write_bytes(b"")
    assert torch.load(folder / PREVIOUS)["asr"]["position"]["steps"] == 2


def test_the_first_checkpoint_has_no_previous_one(folder):
    folder.mkdir(parents=True)
    keep_previous(folder / LAST, folder / PREVIOUS)
    assert os.listdir(folder) == []


def test_a_disk_that_fills_up_leaves_both_checkpoints_as_they_were(folder):
    keep = WholeCheckpoints()
    for steps in (1, 2):
        keep.save_checkpoint(checkpoint(steps), str(folder / LAST))
    with room_for(900), pytest.raises(UserError):
        keep.save_checkpoint(checkpoint(3, size=100_000), str(folder / LAST))
    assert sorted(os.listdir(folder)) == [LAST, PREVIOUS]
    assert last_checkpoint(folder.parent)[1]["asr"]["position"]["steps"] == 2
    (folder / LAST).unlink()
    assert last_checkpoint(folder.parent)[1]["asr"]["position"]["steps"] == 1


def test_lightning_reads_a_checkpoint_as_data_only(folder):
    write_checkpoint(folder / LAST, checkpoint())
    assert WholeCheckpoints().load_checkpoint(folder / LAST)["asr"]["position"] == POSITION
    write_checkpoint(folder / LAST, checkpoint(callbacks=Bomb()))
    with pytest.raises(UserError, match="names code"):
        WholeCheckpoints().load_checkpoint(folder / LAST, weights_only=False)
    assert PLANTED == []


def test_the_last_checkpoint_is_used_without_a_remark(folder):
    write_checkpoint(folder / LAST, checkpoint(7))
    write_checkpoint(folder / PREVIOUS, checkpoint(6))
    file, content, said = last_checkpoint(folder.parent)
    assert (file, content["asr"]["position"]["steps"], said) == (folder / LAST, 7, [])


def spoil(file, how):
    if how == "torn":
        write_checkpoint(file, checkpoint(size=1000))
        file.write_bytes(file.read_bytes()[:2000])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "bomb":
        write_checkpoint(file, checkpoint(callbacks=Bomb()))
    elif how == "bare bomb":
        file.write_bytes(pickle.dumps(Bomb()))
    elif how == "of a model only":
        content = checkpoint()
        del content["optimizer_states"]
        write_checkpoint(file, content)
    elif how == "without a position":
        write_checkpoint(file, {**checkpoint(), "asr": "nothing"})
    else:
        write_checkpoint(file, {**checkpoint(), "asr": {"position": {"steps": 3}, "plan": {}}})


SPOILT = ["torn", "empty", "bomb", "bare bomb", "of a model only", "without a position", "with half a position"]


@pytest.mark.parametrize("how", SPOILT)
def test_a_damaged_last_checkpoint_is_named_and_never_executed_and_the_previous_one_is_used(folder, how):
    write_checkpoint(folder / PREVIOUS, checkpoint(6))
    spoil(folder / LAST, how)
    file, content, said = last_checkpoint(folder.parent)
    assert (file, content["asr"]["position"]["steps"]) == (folder / PREVIOUS, 6)
    assert len(said) == 1 and str(folder / LAST) in said[0]
    assert said[0].endswith("Resuming from the checkpoint before it.")
    assert PLANTED == []


@pytest.mark.parametrize("how", SPOILT)
def test_it_is_reported_if_both_are_damaged(folder, how):
    folder.mkdir(parents=True)
    spoil(folder / LAST, how)
    spoil(folder / PREVIOUS, how)
    with pytest.raises(UserError, match=LAST) as refused:
        last_checkpoint(folder.parent)
    assert "Resuming" not in str(refused.value) and "\n" not in str(refused.value)
    assert PLANTED == []


def test_a_run_without_a_checkpoint_tells_how_to_start_it_again(folder):
    with pytest.raises(UserError, match="stopped before its first one.*command.txt"):
        last_checkpoint(folder.parent)


def test_the_bomb_of_these_tests_goes_off_when_it_is_unpickled():
    pickle.loads(pickle.dumps(Bomb()))
    assert PLANTED.pop() == "ran"
