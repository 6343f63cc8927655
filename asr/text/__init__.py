"""Written language: units, lexicons, n-gram language models, normalization."""
