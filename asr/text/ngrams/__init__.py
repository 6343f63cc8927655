"""N-gram language models: estimated from text, pruned, read and written as ARPA, and measured by perplexity.

model = estimate(sentences, order=3)
model.write_arpa("lm.arpa.gz")
read_model("lm.arpa.gz").perplexity(other_sentences).with_unknown
"""

from __future__ import annotations

from asr.text.ngrams.kneser_ney import estimate
from asr.text.ngrams.model import NgramModel
from asr.text.ngrams.perplexity import Perplexity
from asr.text.ngrams.pruning import prune
from asr.text.ngrams.reading import read_model
from asr.text.ngrams.text import TextFile

__all__ = ["NgramModel", "Perplexity", "TextFile", "estimate", "prune", "read_model"]
