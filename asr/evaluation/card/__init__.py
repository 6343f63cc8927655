"""The model card: `README.md` of a model folder, as people and the Hugging Face Hub read it."""
