"""NIST's evaluations: their files and rules."""
