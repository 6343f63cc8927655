"""Trains a recognizer: python train.py attention=i_clustered clusters=100"""

from asr.command import command


@command("train")
def train(config) -> float:
    """Trains a speech recognizer and scores it on the test split.

    python train.py attention=i_clustered clusters=100
    python train.py corpus=asterisk attention=full max_minutes=10
    """
    from asr.training import train

    return train(config)


if __name__ == "__main__":
    train()
