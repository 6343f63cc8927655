"""The voices of the built-in corpus: eSpeak NG's variants that sound like people, and which of them are held out.

Whispers, creaks, robots, echoes and children are left out, as are voices whose spectra lie far from all others.
No variant is in two splits; the held-out ones are ordinary men and women, similar to some in train.
"""

from __future__ import annotations

import random

VARIANTS = {
    "train": """
        Alex Annie Andrea Denis Diogo Gene Hugo Jacky Michael Nguyen Reed Storm adam anika antonio belinda benjamin ed
        edward f1 f2 f3 f4 grandma gustave iven3 iven4 john klatt3 klatt4 m2 m3 m5 m7 m8 max mike2 miguel pablo paul quincy
        rob sandro steph victor grandpa
    """.split(),
    "dev": "Henrique Mario edward2 linda m1 m6 michel steph3".split(),
    "test": "Gene2 Mike aunty f5 m4 pedro robert steph2".split(),
}

# The accent of most speech, and the others, one per person; accents that merge or drop consonants (Caribbean, West Midlands,
# New York) are left out.
MAIN_ACCENT, MAIN_SHARE = "en-us", 0.75
OTHER_ACCENTS = ("en", "en-gb-x-rp", "en-gb-scotland")


def draw_voice(split: str, index: int, generator: random.Random) -> str:
    """The voice of utterance `index`: variants take turns, so all speak about equally much; the accent is random."""
    turn = index % len(VARIANTS[split])
    accent = MAIN_ACCENT if generator.random() < MAIN_SHARE else OTHER_ACCENTS[turn % len(OTHER_ACCENTS)]
    return f"{accent}+{VARIANTS[split][turn]}"
