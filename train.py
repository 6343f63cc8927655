"""Trains a recognizer: python train.py attention=i_clustered clusters=100"""

from asr.cli.command import command
from asr.training.resuming import with_run


@command("train", arguments=with_run)
def train(config) -> float:
    """Trains a speech recognizer and scores it on the test split.

    python train.py attention=i_clustered clusters=100
    python train.py corpus=asterisk attention=full max_minutes=10
    python train.py resume=runs/spoken/full/2026-01-31_12-00-00
    python train.py resume=RUN corpus.path=/new/place   # its corpus has moved
    """
    import os

    from hydra.core.hydra_config import HydraConfig

    from asr.cli.command import typed_settings
    from asr.config.overrides import escaped
    from asr.training.job import train

    # in a multirun every job has a folder of its own
    config.run = escaped(os.path.relpath(HydraConfig.get().runtime.output_dir))
    return train(config, typed_settings())


if __name__ == "__main__":
    train()
