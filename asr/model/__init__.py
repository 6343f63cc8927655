"""The network, its parts, and the files that hold it."""
