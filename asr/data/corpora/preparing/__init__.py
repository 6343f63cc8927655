"""What the corpora share: finding, checking and converting files on disk."""
