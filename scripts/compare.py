"""Compares two evaluations of the same utterances: python scripts/compare.py A B [SETTING=VALUE ...]

A and B are folders of evaluations, or of runs, which stand for the test split with the run's own attention. Prints both error
rates, their difference (B minus A) with its 95 % interval, the probability of improvement and the p-value of a paired
bootstrap test (Bisani and Ney 2004), and the utterances that changed most.

    split=test        the split, if A or B is the folder of a run
    metric=auto       as scored; wer or cer recounts texts in words or characters
    unit=auto         what to resample: utterances, speakers, or auto (speakers if there are 10 or more)
    resamples=10000   samples for the interval and the p-value
    seed=0            of the resampling
    changed=10        how many changed utterances to show
    output=           a folder for comparison.md and comparison.html; by default nothing is written
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # a file of the checkout, which need not be installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr.cli.command import mistakes_as_sentences  # noqa: E402
from asr.config.overrides import parted  # noqa: E402
from asr.errors import UserError, nearest  # noqa: E402
from asr.runtime.called import as_called  # noqa: E402

DEFAULTS = {
    "split": "test",
    "metric": "auto",
    "unit": "auto",
    "resamples": 10000,
    "seed": 0,
    "changed": 10,
    "output": None,
}
LEAST = {"resamples": 100, "seed": 0, "changed": 0}


def parse_arguments(arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    """(the two folders, settings) from the command line; an argument is a setting if it begins with one's name and `=`."""
    folders, settings = [], dict(DEFAULTS)
    for argument in arguments:
        key, equals, text = parted(argument)
        if not equals or Path(argument).is_dir():
            folders.append(argument)
        elif key not in DEFAULTS:
            raise UserError(f"There is no setting {key!r}: {nearest(key, DEFAULTS)}.")
        elif key not in LEAST:
            settings[key] = text or DEFAULTS[key]
        elif not text.isdecimal() or int(text) < LEAST[key]:
            raise UserError(f"{key} takes a whole number of {LEAST[key]} or more, not {text!r}.")
        else:
            settings[key] = int(text)
    if len(folders) != 2:
        raise UserError(f"Two folders are needed, but {len(folders)} are named: python scripts/compare.py A B")
    return folders, settings


def run(arguments: list[str]) -> None:
    from asr.evaluation.report.comparison import verdict, write_comparison
    from asr.runtime.provenance import command_line
    from asr.scoring.comparison import compare
    from asr.scoring.metric import recounted
    from asr.scoring.reading import find_evaluation, read_evaluation

    folders, settings = parse_arguments(arguments)
    a, b = (read_evaluation(find_evaluation(folder, settings["split"])) for folder in folders)
    a, b = recounted(a, settings["metric"]), recounted(b, settings["metric"])
    comparison = compare(a, b, settings["unit"], settings["resamples"], settings["seed"])
    show(comparison, a, b, settings["changed"])
    print(verdict(comparison))
    if settings["output"]:
        for path in write_comparison(Path(settings["output"]), comparison, a, b, command_line(), settings["changed"]):
            print(path)


def show(comparison, a, b, changed: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from asr.evaluation.report.comparison import CHANGE_HEADERS, change_rows, result_rows

    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    results = Table(show_header=False)
    results.add_column()
    results.add_column(overflow="fold")
    for row in result_rows(comparison, a, b):
        results.add_row(*row)
    console.print(results)
    rows = change_rows(comparison, changed)
    if rows:
        changes = Table(title="the utterances that changed most")
        for number, header in enumerate(CHANGE_HEADERS):
            changes.add_column(header, justify="left" if number < 2 else "right", overflow="fold")
        for row in rows:
            changes.add_row(*row)
        console.print(changes)


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(as_called(__doc__.strip()))
        return 0 if arguments else 2
    with mistakes_as_sentences("compare.py"):
        run(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
