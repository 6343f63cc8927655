"""Training a recognizer."""
