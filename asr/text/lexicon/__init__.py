"""Which phonemes a word is made of."""
