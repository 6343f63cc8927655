"""Libraries that fail to load, or fail to load together: a sentence with their versions and the command that fixes it."""

from __future__ import annotations

import importlib.metadata
import shlex
import sys
from collections.abc import Iterator
from types import TracebackType

from asr.errors import UserError
from asr.runtime.called import CHECKOUT

# an error raised while importing one of these is a bug of ours, not a broken installation
OURS = {"asr", "scripts", "tests", "__main__"}
# the oldest torch that each torchaudio loads with (tried with torch 2.11.0 to 2.14.1); torchaudio's metadata do not say
TORCH_FOR_TORCHAUDIO = {"2.11.1": "2.13"}
TORCHAUDIO_FOR_ANY_TORCH = "2.11.0"
# what a library most likely conflicts with, if not with torch, triton and numpy
BESIDE = {"torchaudio": ("torch",)}


def check_libraries() -> None:
    """Raises UserError if torch and torchaudio do not load together: otherwise torchaudio fails where it is first used."""
    try:
        import torch  # noqa: F401 - torchaudio's shared libraries need torch's
        import torchaudio  # noqa: F401
    except Exception as error:
        raise UserError(sentence_for(error) or f"torch and torchaudio cannot be loaded: {first_line(error)}") from None


def sentence_for(error: BaseException) -> str | None:
    """What to tell the user about an error raised while importing a library; None for any other error."""
    library = failed_import(error)
    if library is None:
        return None
    if isinstance(error, ModuleNotFoundError) and error.name == library:
        return f"The library {library} is not installed. Install what asr needs: {install_command()}"
    others = [
        name for name in BESIDE.get(library, ("torch", "triton", "numpy")) if name != library and version_of(name)
    ]
    beside = ", ".join(f"{name} {version_of(name)}" for name in others)
    return (
        f"{library} {version_of(library)} cannot be loaded with {beside} ({first_line(error)}). "
        f"Install versions that work together: {mending_command(library)}"
    )


def failed_import(error: BaseException) -> str | None:
    """The library whose import raised the error; None if nothing was being imported, or if our own code failed."""
    missing = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    if missing:
        return None if missing in OURS or missing in sys.stdlib_module_names else missing
    executed = [module for module in modules_executed(error.__traceback__) if module not in sys.stdlib_module_names]
    return executed[-1] if executed and executed[-1] not in OURS and version_of(executed[-1]) else None


def modules_executed(traceback: TracebackType | None) -> Iterator[str]:
    """Top-level names of the modules being imported (whose bodies were running), outermost first."""
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_code.co_name == "<module>":
            yield frame.f_globals.get("__name__", "").partition(".")[0]
        traceback = traceback.tb_next


def version_of(library: str) -> str | None:
    """The installed version of the library with this import name; None if it is not installed."""
    distributions = [library]
    try:
        importlib.metadata.distribution(library)
    except importlib.metadata.PackageNotFoundError:
        distributions = importlib.metadata.packages_distributions().get(library, [])
    return importlib.metadata.version(distributions[0]) if distributions else None


def mending_command(library: str) -> str:
    """The command that makes `library` load: it installs the one version that fits, or all versions known to work together."""
    torch, needed = version_of("torch"), TORCH_FOR_TORCHAUDIO.get((version_of("torchaudio") or "").partition("+")[0])
    if library == "torchaudio" and torch and needed and release(torch) < release(needed):
        return f"{pip()} torchaudio=={TORCHAUDIO_FOR_ANY_TORCH}"
    return install_command()


def install_command() -> str:
    if CHECKOUT:
        return f"{pip()} -c {shlex.quote(str(CHECKOUT / 'constraints.txt'))} -e {shlex.quote(str(CHECKOUT))}"
    # not `pip install asr`: that would fetch whatever project has that name on the index
    needed = [requirement for requirement in importlib.metadata.requires("asr") or () if "extra ==" not in requirement]
    return f"{pip()} {shlex.join(needed)}"


def pip() -> str:
    return f"{shlex.quote(sys.executable)} -m pip install"


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, as in (2, 11, 0) for 2.11.0+cu130."""
    return tuple(int(part) for part in version.partition("+")[0].split(".") if part.isdigit())


def first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
