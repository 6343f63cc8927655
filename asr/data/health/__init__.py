"""The health of a corpus before training: leaks between splits, odd utterances, damaged audio.

`quick_check` reads the manifests only and takes seconds; `check_corpus` checks the texts against the units and, if asked,
decodes all audio. `scripts/check_data.py` reports what they find.
"""

from asr.data.health.leaks import Leak, QuickFindings, quick_check, refuse_leaks

__all__ = ["Leak", "QuickFindings", "quick_check", "refuse_leaks"]
