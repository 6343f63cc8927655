"""What `--help` prints: written from `conf/` itself, so that it never goes stale."""

from __future__ import annotations

import re

from asr.config.settings import CONF, default_choices, groups


def help_text(config_name: str, program: str, about: str, arguments: str) -> str:
    """What `--help` prints: the choices of each group and the settings, in the words of `conf/`'s own comments."""
    top = (CONF / f"{config_name}.yaml").read_text(encoding="utf8")
    lines = [f"usage: python {program} [group=choice …] [key=value …] {arguments}".rstrip(), "", about, ""]
    defaults = default_choices(config_name)
    for group, choices in groups().items():
        if group not in defaults:
            continue
        default = "" if defaults[group] == "null" else f" (default {defaults[group]})"
        lines.append(f"{group}={default}")
        width = max(len(choice) for choice in choices) + 2
        for choice in choices:
            first = (CONF / group / f"{choice}.yaml").read_text(encoding="utf8").splitlines()
            about_choice = next(
                (line.lstrip("# ") for line in first if line.startswith("# ") and "@package" not in line), ""
            )
            lines.append(f"    {choice:<{width}}{about_choice}")
        lines.append("")
    lines.append("settings")
    texts = [top]
    if "- knobs" in top:
        texts.insert(0, (CONF / "knobs.yaml").read_text(encoding="utf8"))
    for text in texts:
        for key, value, comment in re.findall(r"^(\w+): *([^#\n]*?) *# (.+)$", text, re.M):
            lines.append(f"    {key + '=' + value.strip():<25} {comment}")
        for comment, key, value in re.findall(r"^# ([a-z].+)\n(\w+): *(\S+)$", text, re.M):
            lines.append(f"    {key}={value}\n    {'':<26}{comment}")
    lines += ["", f"Every other key of conf/ can be set too: python {program} --cfg job prints them all."]
    return "\n".join(lines)
