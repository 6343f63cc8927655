"""Aligns the references of a split with its audio: python scripts/align.py checkpoint=RUN split=test"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # a file of the checkout, which need not be installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr.cli.command import command  # noqa: E402


@command("align")
def align(config) -> None:
    """Writes the times of all words and units of a split as CTM and TextGrid files.

    python scripts/align.py checkpoint=runs/spoken/full/2026-01-31_12-00-00
    python scripts/align.py checkpoint=RUN hypotheses=true       # hypotheses too
    python scripts/align.py checkpoint=RUN gold_phonemes=false   # by the words' pronunciations

    If the corpus has gold times (corpus=spoken), prints the errors of the times; with hypotheses=true also how well confidences
    separate right words from wrong ones.
    """
    from asr.cli.command import asked_of_checkpoint
    from asr.config.settings import plain
    from asr.evaluation.alignment import align_split
    from asr.evaluation.confidences import show_confidence
    from asr.evaluation.request import Request
    from asr.evaluation.times import show

    request = Request(
        **asked_of_checkpoint(config),
        split=config.split,
        corpus=plain(config.corpus) if config.get("corpus") else None,
        batch_frames=config.batch_frames,
        batch_utterances=config.batch_utterances,
        max_dropped=config.max_dropped,
        cache=str(config.cache),
        output=config.output,
    )
    result = align_split(request, config.hypotheses, config.gold_phonemes, config.textgrid)
    for kind in ("reference", "hypothesis"):
        for name, scored in result.get(kind, {}).items():
            print(show(f"{kind} {name}", scored))
    if "confidence" in result:
        print(show_confidence(result["confidence"]))
    print(
        f"{result['utterances'] - result['not_aligned']} utterances aligned, {result['not_aligned']} not; in {result['folder']}"
    )


if __name__ == "__main__":
    align()
