"""Trains a recognizer: python train.py attention=i_clustered clusters=100"""

from asr.command import command


@command("train")
def train(config) -> float:
    """Trains a speech recognizer and scores it on the test split.

    python train.py attention=i_clustered clusters=100
    python train.py corpus=asterisk attention=full max_minutes=10
    """
    import os

    from hydra.core.hydra_config import HydraConfig

    from asr.training import train

    # in a multirun every job has a folder of its own
    config.run = os.path.relpath(HydraConfig.get().runtime.output_dir)
    return train(config)


if __name__ == "__main__":
    train()
