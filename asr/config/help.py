"""What `--help` prints: the choices and settings of `conf/` in the words of its own comments."""

from __future__ import annotations

from asr.config.comments import settings_of, summary
from asr.config.settings import default_choices, groups, inherited, text_of


def help_text(config_name: str, about: str, arguments: str) -> str:
    """The choices of each group and the settings of a program. about: what it does. arguments: those beside settings."""
    lines = [f"usage: python {config_name}.py [group=choice …] [key=value …] {arguments}".rstrip(), "", about, ""]
    defaults = default_choices(config_name)
    for group, choices in groups().items():
        if group in defaults:
            lines += help_of_group(group, defaults[group], choices)
    lines.append("settings, with their defaults; in brackets, what they may be where the default does not show it")
    for name in inherited(config_name):
        for setting in settings_of(text_of(name)):
            assigned = f"{setting.key}={setting.default}"
            words = f"    {assigned:<25} {setting.described}".rstrip()
            lines.append(words if len(assigned) <= 25 else f"    {assigned}\n{'':<30}{setting.described}")
    lines += ["", f"Every other key of conf/ can be set too: python {config_name}.py --cfg job prints them all."]
    return "\n".join(lines)


def help_of_group(group: str, default: str, choices: list[str]) -> list[str]:
    """A group with its choices, a line each, and an empty line."""
    width = max(map(len, choices)) + 2
    listed = [f"    {choice:<{width}}{summary(text_of(f'{group}/{choice}'))}".rstrip() for choice in choices]
    return [f"{group}=" + ("" if default == "null" else f" (default {default})"), *listed, ""]
