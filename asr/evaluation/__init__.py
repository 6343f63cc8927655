"""Scoring a recognizer, and the pages that show it."""
