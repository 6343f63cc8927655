"""N-gram language models: estimated from text, pruned, read and written as ARPA, and measured by perplexity.

model = estimate(sentences, order=3)
model.write_arpa("lm.arpa.gz")
read_model("lm.arpa.gz").perplexity(other_sentences).with_unknown
"""

from __future__ import annotations

from asr.language.kneser_ney import estimate
from asr.language.model import NgramModel
from asr.language.perplexity import Perplexity
from asr.language.pruning import prune
from asr.language.reading import read_model
from asr.language.text import TextFile

__all__ = ["NgramModel", "Perplexity", "TextFile", "estimate", "prune", "read_model"]
