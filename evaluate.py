"""Scores a trained recognizer: python evaluate.py checkpoint=RUN attention=clustered clusters=200"""

from asr.command import command


@command("evaluate")
def evaluate(config) -> None:
    """Scores a checkpoint, with its own attention or with another.

    python evaluate.py checkpoint=runs/spoken/full/2026-01-31_12-00-00
    python evaluate.py checkpoint=runs/spoken/full/2026-01-31_12-00-00 attention=clustered clusters=200
    """
    from asr.command import typed_knobs
    from asr.evaluation import Request, evaluate
    from asr.scoring.show import show_scores
    from asr.training import plain

    scores = evaluate(
        Request(
            checkpoint=str(config.checkpoint),
            split=config.split,
            attention=plain(config.attention) if config.get("attention") else None,
            knobs=typed_knobs(config),
            corpus=plain(config.corpus) if config.get("corpus") else None,
            decoder=plain(config.decoder),
            device=config.device,
            batch_frames=config.batch_frames,
            bootstrap=config.bootstrap,
            max_dropped=config.max_dropped,
            cache=str(config.cache),
            output=config.output,
        )
    )
    show_scores(scores)


if __name__ == "__main__":
    evaluate()
