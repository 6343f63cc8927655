"""Graphs of phones and of frames: the denominator of LF-MMI, its numerators, and what decoding by the phone LM searches."""
