"""End-to-end speech recognition on long sequences, with the encoder's self-attention as a choice.

Importing this package imports nothing heavy: torch, lightning and lhotse come in where they are used.
"""
