"""Trainings started at the same time never get in each other's way: real processes, at once."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy
import pytest
import soundfile

from asr.config.checks import check_folder
from asr.errors import UserError
from asr.runtime.files import folder_of_its_own, make_folder, remove_if_empty

pytestmark = pytest.mark.run

ROOT = Path(__file__).resolve().parents[2]


def at_once(program, folder, *arguments, processes=4):
    """The output of `processes` processes that run `program` at the same time: each waits until all are ready."""
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    for one in started:
        assert one.stdout.readline() == "ready\n", one.stderr.read()
    for one in started:
        one.stdin.write("go\n")
        one.stdin.flush()
    ended = [one.communicate(timeout=240) for one in started]
    assert [one.returncode for one in started] == [0] * processes, ended
    return ended


READY = "print('ready', flush=True); sys.stdin.readline()\n"


def test_each_gets_a_folder_of_its_own_while_others_make_and_remove_theirs(tmp_path):
    program = f"""
from pathlib import Path
from asr.runtime.files import folder_of_its_own, remove_if_empty
from asr.config.checks import check_folder
{READY}
for number in range(100):
    wanted = Path("runs/folder/full") / str(number)
    check_folder(wanted.absolute())
    own = folder_of_its_own(wanted)
    if number % 3:
        remove_if_empty(own)
        remove_if_empty(Path("runs/folder/full/none"))
    else:
        print(own)
"""
    said = at_once(program, tmp_path)
    kept = Counter(line for out, _ in said for line in out.split())
    assert set(kept.values()) == {1} and len(kept) == 4 * 34
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("runs/folder/full/*")} == set(kept)


def test_the_second_and_the_third_get_a_number_appended(tmp_path):
    wanted = tmp_path / "runs/2026-01-31_12-00-00"
    assert [folder_of_its_own(wanted).name for _ in range(3)] == [wanted.name, f"{wanted.name}-2", f"{wanted.name}-3"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="run=.*the folder cannot be made"):
        folder_of_its_own(tmp_path / "file/run")


def test_checking_whether_a_folder_can_be_made_leaves_no_trace_and_touches_nothing(tmp_path):
    check_folder(tmp_path / "a/b/c")
    assert list(tmp_path.iterdir()) == []
    assert make_folder(tmp_path / "a/b") and not make_folder(tmp_path / "a/b")
    check_folder(tmp_path / "a/b")
    check_folder(tmp_path / "a/b/c")
    assert list((tmp_path / "a").iterdir()) == [tmp_path / "a/b"]
    remove_if_empty(tmp_path / "a/nowhere")
    assert (tmp_path / "a/b").is_dir()


def test_runs_started_in_the_same_second_from_the_command_line_get_different_folders(tmp_path):
    (tmp_path / "program.py").write_text(f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
import datetime, types
import hydra.core.utils
from omegaconf import OmegaConf
from asr.cli.command import command

# all of them start in this second
hydra.core.utils.datetime = types.SimpleNamespace(now=lambda: datetime.datetime(2026, 1, 31, 12))

@command("train")
def main(config):
    from pathlib import Path
    from asr.runtime.provenance import command_line
    (Path(config.run) / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    print(config.run, "|", command_line())

{READY}
main()
""")
    program = "import runpy; sys.argv[0] = 'program.py'; runpy.run_path('program.py', run_name='__main__')"
    said = at_once(program, tmp_path, "corpus=folder", "corpus.path=~/lang=en")
    folders = sorted(out.split(" | ")[0] for out, _ in said)
    name = "runs/folder/full/2026-01-31_12-00-00"
    assert folders == [name, f"{name}-2", f"{name}-3", f"{name}-4"], said
    assert {out.split(" | ")[1] for out, _ in said} == {"python program.py corpus=folder 'corpus.path=~/lang=en'\n"}


def test_a_corpus_that_two_processes_prepare_at_once_is_ready_for_both(tmp_path):
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.ogg", numpy.full(8000, number / 10, "float32"), 8000)
    (tmp_path / "transcripts.tsv").write_text("".join(f"{number}.ogg\tone\n" for number in range(3)))
    program = f"""
from pathlib import Path
from asr.data.corpora import corpora
from asr.data.fingerprint import fingerprint
import asr.audio.reading, lhotse
source = corpora.create({{"name": "folder", "path": "."}})
{READY}
print(fingerprint(source.load(Path("cache")).splits))
"""
    first, second = (out for out, _ in at_once(program, tmp_path, processes=2))
    assert first == second != ""
    assert len(list((tmp_path / "cache/folder").iterdir())) == 1
