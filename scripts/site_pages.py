"""MkDocs hooks: builds pages from files elsewhere in the repository, so that there is one copy of each.

README.md becomes the first page, `results/` comes with its raw output, and the reference of settings is generated from `conf/`.
Links are written for readers of the repository (`../results/README.md`, `../LICENSE`); here they are redirected to the site's
page of that file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from settings_reference import reference

ROOT = Path(__file__).resolve().parent.parent

# file in the repository → page of the site
INCLUDED = {
    "README.md": "index.md",
    "results/README.md": "results/index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "apache.md",
}
GENERATED = ("reference/settings.md",)
LINK = re.compile(r"(\[(?:[^\[\]]|\[[^\]]*\])*\]\(|<img [^>]*?src=\"|<a href=\")([^)\s\"]+)(\)|\")")


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are not in docs/."""
    from mkdocs.structure.files import File

    def add(page: str, content: str | bytes) -> None:
        files.append(File.generated(config, page, content=content))

    for source, page in INCLUDED.items():
        if (ROOT / source).exists():
            text = (ROOT / source).read_text(encoding="utf8")
            add(page, text if source.endswith(".md") else f"# Apache License\n\n```text\n{text}```\n")
    add("reference/settings.md", reference())
    for path in sorted((ROOT / "results").rglob("*")):
        name = path.relative_to(ROOT).as_posix()
        if path.is_file() and name not in INCLUDED:
            add(name, path.read_bytes())
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turns links between files of the repository into links between pages."""
    here = page.file.src_uri
    source = source_of(here)

    def turned(match: re.Match[str]) -> str:
        start, target, end = match.groups()
        if re.match(r"[a-z]+:|#|/", target):
            return match[0]
        path, _, anchor = target.partition("#")
        linked = os.path.normpath(os.path.join(os.path.dirname(source), path))
        there = page_of(linked)
        if there is None or files.get_file_from_path(there) is None:
            # targets that the site does not have, such as folders and source files, become text
            return f"{start[1:-2]}" if start.startswith("[") else match[0]
        relative = os.path.relpath(there, os.path.dirname(here) or ".")
        return f"{start}{relative}{'#' + anchor if anchor else ''}{end}"

    return LINK.sub(turned, markdown)


def source_of(page: str) -> str:
    """The file of the repository behind a page of the site."""
    if page.startswith("results/") and page != "results/index.md":
        return page
    return next((source for source, its_page in INCLUDED.items() if its_page == page), f"docs/{page}")


def page_of(source: str) -> str | None:
    """The site's page of a file of the repository, or None."""
    if source in INCLUDED:
        return INCLUDED[source]
    if source.startswith("docs/"):
        return source.removeprefix("docs/")
    return source if source.startswith("results/") else None
