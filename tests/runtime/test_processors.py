"""How many processors may be used: as many as affinity and every control group allow, whatever the machine has."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from asr.config.settings import compose
from asr.runtime import processors as module
from asr.runtime.control_groups import control_groups
from asr.runtime.processors import processors, reading_workers, threads

ROOT = Path(__file__).resolve().parents[2]
V2 = "29 22 0:26 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "33 31 0:30 {root} /sys/fs/cgroup/cpu,cpuacct rw shared:5 - cgroup cgroup rw,cpu,cpuacct\n"
OTHERS = (
    "22 1 254:0 / / rw shared:1 - ext4 /dev/root rw\n30 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
)


def machine(root, mountinfo, groups, **files):
    """A file system with these control groups; files: content by path below /sys/fs/cgroup, `__` for each `/`."""
    for path, content in {"proc/self/mountinfo": OTHERS + mountinfo, "proc/self/cgroup": groups}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    for path, content in files.items():
        file = root / "sys/fs/cgroup" / path.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


@pytest.fixture(autouse=True)
def of_64(monkeypatch):
    """A machine of 64 processors on which nothing is configured."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    for name in ("OMP_NUM_THREADS", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("mountinfo", "groups", "files", "expected"),
    [
        # version 2: a container with its own namespace sees its group as the root
        (V2.format(root="/"), "0::/\n", {"cpu_dot_max": "200000 100000\n"}, 2),
        (V2.format(root="/"), "0::/\n", {"cpu_dot_max": "max 100000\n"}, 64),
        (V2.format(root="/"), "0::/\n", {}, 64),
        # fractions are rounded down, but to no less than one processor
        (V2.format(root="/"), "0::/\n", {"cpu_dot_max": "370000 100000\n"}, 3),
        (V2.format(root="/"), "0::/\n", {"cpu_dot_max": "50000 100000\n"}, 1),
        # a service whose slice has a lower quota than itself
        (V2.format(root="/"), "0::/a/b\n", {"a__b__cpu_dot_max": "800000 100000", "a__cpu_dot_max": "400000 100000"}, 4),
        (V2.format(root="/"), "0::/a/b\n", {"a__b__cpu_dot_max": "300000 100000", "a__cpu_dot_max": "max 100000"}, 3),
        # a container without its own namespace: the host's name of the group, whose folder is mounted
        (V2.format(root="/docker/x"), "0::/docker/x\n", {"cpu_dot_max": "500000 100000"}, 5),
        (V2.format(root="/"), "0::/../../outside\n", {"cpu_dot_max": "600000 100000"}, 6),
        (V2.format(root="/"), "0::/docker/unseen\n", {"cpu_dot_max": "600000 100000"}, 6),
        # version 1, which uses two files and -1 for no quota
        (V1.format(root="/"), "4:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n", {"cpu,cpuacct__cpu_dot_cfs_quota_us": "-1",
            "cpu,cpuacct__cpu_dot_cfs_period_us": "100000"}, 64),
        (V1.format(root="/docker/x"), "4:cpu,cpuacct:/docker/x\n", {"cpu,cpuacct__cpu_dot_cfs_quota_us": "250000",
            "cpu,cpuacct__cpu_dot_cfs_period_us": "100000"}, 2),
        (V1.format(root="/"), "4:cpu,cpuacct:/jobs\n", {"cpu,cpuacct__jobs__cpu_dot_cfs_quota_us": "70000",
            "cpu,cpuacct__jobs__cpu_dot_cfs_period_us": "10000"}, 7),
        # no control groups, or unreadable ones
        ("", "", {}, 64),
        ("rubbish\n- cgroup\n", "rubbish\n::\n", {}, 64),
        (V2.format(root="/"), "0::/\n", {"cpu_dot_max": "\n"}, 64),
        (V2.format(root="/"), "0::/\n", {"cpu_dot_max": "100000 0\n"}, 64),
    ],
)  # fmt: skip
def test_the_quota_of_every_group_counts(tmp_path, mountinfo, groups, files, expected):
    assert processors(machine(tmp_path, mountinfo, groups, **files)) == expected


def test_a_mount_with_a_space_in_its_name_is_found(tmp_path):
    mount = V2.format(root="/").replace("/sys/fs/cgroup ", "/my\\040groups ")
    root = machine(tmp_path, mount, "0::/a\n")
    (root / "my groups/a").mkdir(parents=True)
    (root / "my groups/a/cpu.max").write_text("300000 100000")
    assert [folder.name for folder in control_groups("cpu", root)] == ["a", "my groups"] and processors(root) == 3


def test_affinity_quota_and_openmp_each_bound_the_processors(tmp_path, monkeypatch):
    root = machine(tmp_path, V2.format(root="/"), "0::/\n", cpu_dot_max="800000 100000")
    assert processors(root) == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 4, 5})
    assert processors(root) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert processors(root) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert processors(root) == 3


@pytest.mark.parametrize(
    ("asked", "processes", "expected", "of_each"),
    # torchrun sets one thread for each of several processes; two processes with four threads each have eight
    [(None, "4", 16, 4), ("4", "2", 8, 4), ("1", "8", 8, 1), ("100", None, 16, 100), (None, "64", 16, 1)],
)
def test_processes_share_the_processors_and_a_users_setting_applies_to_each(
    monkeypatch, asked, processes, expected, of_each
):
    monkeypatch.setattr(module, "quotas", lambda _: [16.9])
    for name, value in (("OMP_NUM_THREADS", asked), ("LOCAL_WORLD_SIZE", processes)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert (processors(), threads()) == (expected, of_each)


@pytest.mark.parametrize(("quota", "on_cpu", "on_gpu"), [(1, 0, 0), (2, 1, 1), (3, 1, 2), (16, 1, 4)])
def test_audio_is_read_by_the_processors_that_the_trainer_leaves_idle(monkeypatch, quota, on_cpu, on_gpu):
    monkeypatch.setattr(module, "quotas", lambda _: [quota])
    assert (reading_workers(False), reading_workers(True)) == (on_cpu, on_gpu)
    assert compose("train", []).data.workers == compose("check_data", []).workers == "auto"


PROGRAM = """
import json, os, sys

os.sched_getaffinity = lambda _: set(range(64))
import asr.cli.command
import asr.runtime.processors

asr.runtime.processors.quotas = lambda root: [2.5]
assert "torch" not in sys.modules

def run(config):
    import torch
    shown = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "GOMP_SPINCOUNT")}
    print(json.dumps([torch.get_num_threads(), shown, "OMP_NUM_THREADS" in asr.runtime.processors.users_environment()]))

asr.cli.command.run_with_hydra = lambda name, function, program, arguments: function(None)
sys.argv = ["program.py", "checkpoint=x"]
asr.cli.command.command("evaluate")(run)()
"""


@pytest.mark.run
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [2, {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "1000"}, False]),
        ({"OMP_NUM_THREADS": "1"}, [1, {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "1000"}, True]),
        ({"OMP_WAIT_POLICY": "active"}, [2, {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": None}, False]),
        ({"GOMP_SPINCOUNT": "7"}, [2, {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "7"}, False]),
    ],
)
def test_a_program_configures_openmp_before_torch_is_imported_unless_its_user_did(given, expected):
    ours = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "LOCAL_WORLD_SIZE")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    program = [sys.executable, "-c", PROGRAM]
    ended = subprocess.run(
        program, env={**environment, **given, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == expected


@pytest.mark.run
def test_a_real_control_group_bounds_a_real_process(tmp_path):
    parents = [folder for folder in control_groups("cpu") if (folder / "cgroup.procs").exists()]
    group = parents[0] / f"asr-test-{os.getpid()}" if parents else tmp_path / "none"
    try:
        group.mkdir()
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text("100000 100000")
        else:
            (group / "cpu.cfs_quota_us").write_text(str(100000))
            (group / "cpu.cfs_period_us").write_text(str(100000))
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"no control group can be made here: {error.strerror}")
    try:
        program = (
            f"import os; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid())); "
            "os.sched_getaffinity = lambda _: set(range(64)); from asr.runtime.processors import processors; print(processors())"
        )
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        ended = subprocess.run(
            [sys.executable, "-c", program],
            env={**environment, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert ended.stdout.strip() == "1", ended.stderr
    finally:
        group.rmdir()
