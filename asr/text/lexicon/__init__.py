"""The pronunciations of words."""
