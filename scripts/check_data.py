"""Checks a corpus before training: python scripts/check_data.py corpus=folder corpus.path=~/speech"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # a file of the checkout, which need not be installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr.cli.command import command  # noqa: E402


@command("check_data")
def check_data(config) -> None:
    """Checks a corpus: leaks between splits, odd utterances, units, enough frames for them, damaged audio.

    python scripts/check_data.py corpus=folder corpus.path=~/speech

    Writes report.html, report.md and findings.json into `output`. The exit code is 0 for a good corpus, 1 for
    problems, 2 for invalid settings.
    """
    from asr.config.settings import plain
    from asr.data.corpora import corpora
    from asr.data.health.check import check_corpus
    from asr.data.health.text import Lengths
    from asr.evaluation.report.health import show, write_reports
    from asr.evaluation.report.page import refuse_unwritable
    from asr.runtime.processors import processors
    from asr.runtime.provenance import command_line

    output = Path(config.output or f"runs/check_data/{config.corpus.name}").expanduser()
    refuse_unwritable(output, "output")
    parts = {part: plain(config[part]) for part in ("corpus", "features", "encoder", "units", "head")}
    Lengths.of(parts, 16000)  # reports mistakes now, not after minutes of preparing a corpus
    workers = processors() if config.workers == "auto" else config.workers
    corpus = corpora.create(parts["corpus"]).load(Path(config.cache), workers)
    lengths = Lengths.of(parts, corpus.sample_rate)
    health = check_corpus(corpus, parts["units"], lengths, config.max_dropped, config.quick, workers)
    write_reports(health, output, command_line())
    show(health, output)
    if health.problems:
        raise SystemExit(1)


if __name__ == "__main__":
    check_data()
