"""What lies between us and the machine: devices, memory, processes, signals, files."""
