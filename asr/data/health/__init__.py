"""The health of a corpus before anything is trained on it: leaks between splits, odd utterances, damaged audio.

`quick_check` reads manifests only and takes seconds; `check_corpus` measures text against units and, if asked, decodes all
audio. `scripts/check_data.py` writes what they find as pages.
"""

from asr.data.health.leaks import Leak, QuickFindings, quick_check, refuse_leaks

__all__ = ["Leak", "QuickFindings", "quick_check", "refuse_leaks"]
