"""What corpora share: finding, checking and converting what is on disk."""
