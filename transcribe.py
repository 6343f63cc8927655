"""Transcribes audio files: python transcribe.py checkpoint=RUN some.wav other.flac"""

from asr.cli.command import command


@command("transcribe", files=True)
def transcribe(config) -> int:
    """Transcribes audio files of any format and any length.

    python transcribe.py checkpoint=runs/spoken/full/2026-01-31_12-00-00 some.wav other.flac
    python transcribe.py checkpoint=RUN format=srt output=subtitles recordings/ 'talks/**/*.mp4'
    some program | python transcribe.py checkpoint=RUN format=json -

    Takes files, folders (the audio below them), globs, and - for standard input. A file that cannot be read is named on standard
    error; the others are transcribed, and the exit code is 1.
    """
    from asr.cli.command import asked_of_checkpoint
    from asr.inference.transcription.files import Request, transcribe_files

    return transcribe_files(
        Request(
            **asked_of_checkpoint(config),
            files=[str(file) for file in config.files],
            format=config.format,
            output=None if config.output is None else str(config.output),
            channel=config.channel,
            whole_seconds=config.whole_seconds,
            window_seconds=config.window_seconds,
            overlap_seconds=config.overlap_seconds,
            pause_seconds=config.pause_seconds,
            skip_seconds=config.skip_seconds,
            one_pass=config.one_pass,
            segment_seconds=config.segment_seconds,
            batch_seconds=config.batch_seconds,
        )
    )


if __name__ == "__main__":
    transcribe()
