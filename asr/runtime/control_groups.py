"""The control groups (version 1 or 2) of this process, through which a container or a scheduler limits it.

The kernel's documentation: admin-guide/cgroup-v1 and admin-guide/cgroup-v2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def control_groups(controller: str, root: Path = ROOT) -> Iterator[Path]:
    """The folders of this process's groups under a controller ("cpu", "memory"), from the innermost outwards.

    Any of them may set a limit. root: of the file system. Yields nothing on systems without control groups.
    """
    memberships = lines_of(root / "proc/self/cgroup")
    mounts = [mount for mount in map(mount_of, lines_of(root / "proc/self/mountinfo")) if mount]
    for membership in memberships:
        _, _, rest = membership.partition(":")
        controllers, _, own = rest.partition(":")
        # version 2 has one hierarchy for all controllers, and lists none here
        if controllers and controller not in controllers.split(","):
            continue
        for kind, options, mounted, mount_point in mounts:
            if kind == "cgroup2" if not controllers else kind == "cgroup" and controller in options:
                yield from upwards(root / mount_point.lstrip("/"), inside(own, mounted))
                break


def mount_of(line: str) -> tuple[str, list[str], str, str] | None:
    """(file system type, its options, its mounted folder, mount point) from a line of mountinfo (proc(5)); None for others."""
    before, _, after = line.partition(" - ")
    fields, behind = before.split(), after.split()
    if len(fields) < 5 or len(behind) < 3 or not behind[0].startswith("cgroup"):
        return None
    return behind[0], behind[2].split(","), unescaped(fields[3]), unescaped(fields[4])


def unescaped(path: str) -> str:
    """A path from mountinfo, which writes spaces and the like as octal escapes."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def inside(own: str, mounted: str) -> PurePosixPath:
    """The path of a process's own group relative to the mounted one; "." if it is not visible from here."""
    path = PurePosixPath(own)
    if ".." in path.parts:
        return PurePosixPath(".")
    if path.is_relative_to(mounted):
        return path.relative_to(mounted)
    # in a container: the host's name of the group, but only the container's part of the hierarchy is mounted
    return path.relative_to("/") if path.is_absolute() else PurePosixPath(".")


def upwards(top: Path, below: PurePosixPath) -> Iterator[Path]:
    """The existing folders from `top / below` up to `top`."""
    for folder in [below, *below.parents] if below.parts else [below]:
        if (top / folder).is_dir():
            yield top / folder


def lines_of(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf8", errors="replace").splitlines()
    except OSError:
        return []


def number_in(file: Path, field: int = 0) -> float | None:
    """A number in a group's file; None if the file is missing or holds a word such as `max` instead."""
    try:
        return float(file.read_text().split()[field])
    except (OSError, ValueError, IndexError):
        return None
