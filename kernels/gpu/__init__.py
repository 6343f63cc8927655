"""The same arithmetic as Triton kernels. Imported only when it is chosen, see `asr.kernels.dispatch`.

`launch` starts kernels (or records what would be started), `common` holds what kernels share. Everything else is one idea
per file: kernels, and the function that launches them.
"""

import atexit
import os
import shutil
import tempfile


def _cache_that_can_be_written() -> None:
    """Triton keeps compiled kernels below the home folder and fails where it cannot; then they live as long as the process."""
    if "TRITON_CACHE_DIR" in os.environ:
        return
    home = os.environ.get("TRITON_HOME", os.path.expanduser("~/"))
    cache = os.path.join(home, ".triton", "cache")
    try:
        os.makedirs(cache, exist_ok=True)
        tempfile.TemporaryFile(dir=cache).close()
    except OSError:
        os.environ["TRITON_CACHE_DIR"] = folder = tempfile.mkdtemp(prefix="asr-triton-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


_cache_that_can_be_written()
