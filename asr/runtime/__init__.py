"""The machine underneath: devices, memory, processes, signals, files."""
