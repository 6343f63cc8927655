"""What users run, one file each: the subcommands of `asr`.

In a checkout these are links to `train.py`, `scripts/prepare.py` and others; a wheel has the files themselves.
"""
