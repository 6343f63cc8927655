"""Transcribes audio files: python transcribe.py checkpoint=RUN some.wav other.flac"""

from asr.command import command


@command("transcribe", files=True)
def transcribe(config) -> int:
    """Prints one line for every audio file: its name, a tab, and what was said.

    python transcribe.py checkpoint=runs/spoken/full/2026-01-31_12-00-00 some.wav other.flac
    """
    from asr.command import typed_knobs
    from asr.settings import plain
    from asr.transcription import transcribe_files

    return transcribe_files(
        list(config.files),
        checkpoint=str(config.checkpoint),
        attention=plain(config.attention) if config.get("attention") else None,
        knobs=typed_knobs(config),
        decoder=plain(config.decoder),
        device=config.device,
        longest_seconds=config.longest_seconds,
    )


if __name__ == "__main__":
    transcribe()
