import os

# one thread a process: the tests run in several processes side by side
os.environ.setdefault("OMP_NUM_THREADS", "1")
