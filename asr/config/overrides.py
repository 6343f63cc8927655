"""Command lines in Hydra's grammar: a path means what was typed, whatever characters it holds.

Hydra parses `key=value` by a grammar of its own, in which `=`, `~`, `#`, quotes, brackets and commas are special and letters such
as ü are errors (hydra.cc/docs/advanced/override_grammar). Here the value of a setting that takes text stays as typed, and so does
any other value that the grammar refuses. Hydra's own parser decides, and its own quotes protect the text.
"""

from __future__ import annotations

import functools
import os
import re
from typing import Any

from asr.config.limits import Limit
from asr.config.schema import Schema, schema_of
from asr.config.settings import first_choices
from asr.config.values import of_own_corpus
from asr.errors import UserError


def as_hydra_takes(config_name: str, arguments: list[str]) -> list[str]:
    """The arguments of a program, each value written so that Hydra reads what was typed.

    A leading `~` is the home folder. Hydra's meaning is kept for values that are quoted as a whole (`path="/data/a,b"`), valid
    interpolations (`${cache}/x`), `null` for settings that may be null, sweeps by commas with --multirun, and all values of
    settings that take no text. Settings of the corpus of a run or a checkpoint, which `conf/` cannot know, are added
    (`++corpus.path=…`).
    """
    several = any(argument in ("-m", "--multirun") for argument in arguments)
    typed = {key_of(argument) for argument in arguments}
    schema = schema_of(config_name, first_choices(config_name, dict(map(halves, arguments))))
    result = []
    for argument in arguments:
        key, value = halves(argument)
        if argument.startswith(("-", "~")) or "=" not in argument:
            result.append(argument)
            continue
        own = of_own_corpus(config_name, key_of(argument), typed)
        prefix = "++" if own and not key.startswith("+") else ""
        result.append(f"{prefix}{key}={TypedSetting(key, schema, own, several).as_hydra_takes(value)}")
    return result


def halves(setting: str) -> tuple[str, str]:
    """(key, value) of `key=value`; the value of `~key` is empty."""
    key, _, value = setting.partition("=")
    return key, value


def parted(argument: str) -> tuple[str, str, str]:
    """`key=value` for programs without Hydra: (key, "=" or "", the value); a leading `~` of the value is the home folder."""
    key, equals, value = argument.partition("=")
    return key, equals, at_home(value)


def shown(setting: str) -> tuple[str, str]:
    """(key, value) of a setting in Hydra's form, made readable: without `+` and quotes."""
    key, value = halves(setting)
    return key.lstrip("+"), getattr(parsed(key, value), "text", value)


def key_of(argument: str) -> str:
    """The key of `key=value`, without the `+` that adds one."""
    return argument.partition("=")[0].lstrip("+")


def typed_text(value: str) -> str:
    """The text of a value, without the quotes around all of it; a leading `~` is the home folder."""
    quoted = parsed("key", value)
    text = quoted.text if hasattr(quoted, "text") and not os.path.lexists(value) else value
    return at_home(text)


def at_home(text: str) -> str:
    """`~` and `~user` at the start of a text as the home folder; a file whose own name begins with `~` by its whole path.

    Raises UserError where there is neither such a user nor such a file.
    """
    path = os.path.expanduser(text)
    if not os.path.normpath(path).startswith("~"):
        return path
    if path.startswith("./") or os.path.lexists(text):
        # pathlib drops the `./` that keeps a `~` from meaning a home folder
        return os.path.abspath(text)
    user = text[1:].partition("/")[0]
    whose = f"there is no user {user!r}" if user else "you have no home folder"
    raise UserError(f"{text}: {whose}. Type ./{text} for a file whose name begins with ~.")


def escaped(plain: Any) -> Any:
    r"""Plain data as a configuration takes it so that nothing is interpolated: `\${` for `${`, backslashes before it doubled."""
    if isinstance(plain, dict):
        return {key: escaped(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [escaped(value) for value in plain]
    return re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", plain) if isinstance(plain, str) else plain


@functools.cache
def parser():
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


REFUSED = object()
# the parts between commas; a part that is quoted as a whole may hold commas
PARTS = re.compile(r"""(?:^|,)(\s*(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')\s*(?=,|$)|[^,]*)""")


def parsed(key: str, value: str) -> Any:
    """How Hydra's grammar reads `key=value`, in its own types for quoted text and sweeps; REFUSED if it cannot."""
    from hydra.errors import HydraException

    try:
        (override,) = parser().parse_overrides([f"{key}={value}"])
    except HydraException:
        return REFUSED
    return override._value


def quoted(key: str, text: str) -> str:
    """`text` in Hydra's quotes, to follow `key=`. Raises UserError for a key that Hydra cannot read."""
    from hydra.core.override_parser.types import Quote, QuotedString

    value = QuotedString(text, Quote.double).with_quotes()
    given = parsed(key, value)
    if getattr(given, "text", None) != text:
        # quotes make any value valid, so it is the key
        raise UserError(f"{key}={text}: there is no setting called {key!r}. --help lists the keys.")
    return value


class TypedSetting:
    """A setting on the command line. own: of the corpus that comes with a run. several: whether commas separate values."""

    def __init__(self, key: str, schema: Schema, own: bool, several: bool):
        name = key.lstrip("+")
        limit = schema.limit(name) if name in schema.keys else Limit()
        self.key, self.config, self.several = key, schema.config, several
        self.text = own or limit.free_text
        self.list = limit.list_of_text
        self.nullable = own or limit.nullable

    def as_hydra_takes(self, value: str) -> str:
        taken = parsed(self.key, value)
        if self.several and (is_sweep(taken) or taken is REFUSED and "," in value):
            return self.each(value, getattr(taken, "list", None) if getattr(taken, "simple_form", False) else taken)
        if self.list and value.startswith("[") and value.endswith("]"):
            return f"[{self.each(value[1:-1], taken)}]"
        if self.list and is_sweep(taken):
            return value
        return self.one(value, taken)

    def each(self, values: str, taken: Any) -> str:
        """Values separated by commas, one by one. taken: Hydra's list; values that Hydra splits differently stay as they are."""
        parts = [part.strip() for part in PARTS.findall(values)]
        if taken is not REFUSED and not (isinstance(taken, list) and len(taken) == len(parts)):
            return values
        return ",".join(self.one(part, parsed(self.key, part)) for part in parts)

    def one(self, value: str, taken: Any) -> str:
        if taken is REFUSED:
            return self.literal(value)
        if not (self.text or self.list) or taken is None and self.nullable:
            return value
        if os.path.lexists(value):
            return self.literal(value, interpolate=False)
        inside = getattr(taken, "text", value)
        return value if "${" in inside else self.literal(inside)

    def literal(self, text: str, interpolate: bool = True) -> str:
        text = at_home(text)
        text = text if interpolate and self.interpolates(text) else escaped(text)
        return text if parsed(self.key, text) == text else quoted(self.key, text)

    def interpolates(self, text: str) -> bool:
        """Whether `${…}` in a text refers to something in the configuration."""
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        if "${" not in text or r"\${" in text:
            return False
        try:
            whole: Any = OmegaConf.to_container(self.config)
            return OmegaConf.create({**whole, "": text})[""] is not None
        except OmegaConfBaseException:
            return False


def is_sweep(taken: Any) -> bool:
    """Whether Hydra reads a value as several."""
    from hydra.core.override_parser.types import Sweep

    return isinstance(taken, Sweep)
