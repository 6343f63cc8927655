"""Audio files: from their bytes to samples, and back."""
