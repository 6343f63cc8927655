"""What is written: units, lexicons, language models."""
