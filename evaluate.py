"""Scores a trained recognizer: python evaluate.py checkpoint=RUN attention=clustered clusters=200"""

from asr.cli.command import command


@command("evaluate")
def evaluate(config) -> None:
    """Scores a checkpoint, with its own attention or another one.

    python evaluate.py checkpoint=runs/spoken/full/2026-01-31_12-00-00
    python evaluate.py checkpoint=runs/spoken/full/2026-01-31_12-00-00 attention=clustered clusters=200
    python evaluate.py checkpoint=RUN corpus.path=/new/place   # the corpus that it was trained on has moved
    python evaluate.py checkpoint=runs/spoken/full/2026-01-31_12-00-00 plot_attention=UTTERANCE clusters=25
    """
    from asr.cli.command import asked_of_checkpoint, typed_settings
    from asr.config.settings import plain, where_settings_lie
    from asr.evaluation.evaluate import evaluate
    from asr.evaluation.request import Request
    from asr.runtime.processes import current_world, joined, launch
    from asr.scoring.show import show_scores

    if config.devices > 1 and current_world().size == 1:
        return launch(config.devices, [*where_settings_lie(), *typed_settings()])
    request = Request(
        **asked_of_checkpoint(config),
        split=config.split,
        corpus=plain(config.corpus) if config.get("corpus") else None,
        batch_frames=config.batch_frames,
        batch_utterances=config.batch_utterances,
        bootstrap=config.bootstrap,
        max_dropped=config.max_dropped,
        cache=str(config.cache),
        output=config.output,
        report=config.report,
        sclite=config.sclite,
        metric=config.metric,
        plot_attention=None if config.plot_attention is None else str(config.plot_attention),
    )
    with joined(config.device, max(config.devices, current_world().size)) as group:
        scores = evaluate(request, group)
    if group.rank == 0:
        show_scores(scores)


if __name__ == "__main__":
    evaluate()
