"""The evaluations of NIST: their files and rules."""
