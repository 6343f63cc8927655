"""Language models over phones: what the denominator of LF-MMI sums over, and what decoding by phones searches.

slots.py        a sentence as slots of alternatives: pronunciations and optional silence
counts.py       expected n-gram counts over all readings of all sentences
estimation.py   counts → model
model.py        the model: a deterministic automaton without back-off
files.py        the model as a text file
"""
