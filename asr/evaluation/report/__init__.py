"""Pages that show results: one HTML file each, complete in itself."""
