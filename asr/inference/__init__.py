"""From emissions to words and their times."""
