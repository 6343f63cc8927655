"""What a setting may be, as the brackets that open its comment in `conf/` say.

    clusters: 100         # [>= 1] clusters of queries
    max_minutes: null     # [number > 0 or null] stop after this many minutes
    device: auto          # [auto, cpu or cuda]
    betas: [0.9, 0.98]    # [list of numbers >= 0 and < 1]

Alternatives are separated by commas and `or`. An alternative is a value as YAML writes it, `any text`, `whole number` or `number`
with bounds joined by `and`, or a `list of` text or numbers. The kind of number may be left out where the default shows it.
Without a bracket, any value of the default's kind is allowed, and any text or null where the default is null.
"""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from typing import Any

BOUNDS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}
SINGULAR = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
PLURAL = {int: "whole numbers", float: "numbers", str: "text"}

BOUND = r"(>=|>|<=|<) *([-+.\deE]+)"
BOUNDED = rf"(?:{BOUND}(?: and (?=[<>]))?)*"
NUMBERS = re.compile(rf"(list of )?(?:(whole number|number)s?)? *({BOUNDED})")


@dataclass(frozen=True)
class Range:
    """Values of one kind (bool, int, float or str; an int counts as a float) within bounds, or lists of such values."""

    kind: type
    bounds: tuple[tuple[str, float], ...] = ()
    several: bool = False

    def admits(self, value: Any) -> bool:
        if self.several:
            return isinstance(value, (list, tuple)) and all(map(self._admits_one, value))
        return self._admits_one(value)

    def _admits_one(self, value: Any) -> bool:
        if isinstance(value, bool) or self.kind is bool:
            return isinstance(value, bool) and self.kind is bool
        if self.kind is str:
            # names may be made of digits
            return isinstance(value, (str, int, float)) and value not in ("", "???")
        if not isinstance(value, int if self.kind is int else (int, float)) or math.isnan(value):
            return False
        return all(BOUNDS[sign](value, bound) for sign, bound in self.bounds)

    def words(self) -> str:
        """Such as "a whole number of 1 or more"."""
        kind = f"a list of {PLURAL[self.kind]}" if self.several else SINGULAR[self.kind]
        if [sign for sign, _ in self.bounds] == [">=", "<="]:
            return f"{kind} from {self.bounds[0][1]:g} to {self.bounds[1][1]:g}"
        forms = {">=": "of {:g} or more", ">": "above {:g}", "<=": "of at most {:g}", "<": "below {:g}"}
        return " ".join([kind, " and ".join(forms[sign].format(bound) for sign, bound in self.bounds)]).rstrip()


@dataclass(frozen=True)
class Limit:
    """The alternatives of a setting: ranges of values, and single values. Without any, everything is allowed."""

    ranges: tuple[Range, ...] = ()
    choices: tuple[Any, ...] = ()

    def admits(self, value: Any) -> bool:
        if not self.ranges and not self.choices:
            return True
        # true is no 1
        return any(
            value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in self.choices
        ) or any(one.admits(value) for one in self.ranges)

    @property
    def nullable(self) -> bool:
        return None in self.choices

    @property
    def free_text(self) -> bool:
        """Whether any text will do, such as a path."""
        return Range(str) in self.ranges

    @property
    def list_of_text(self) -> bool:
        return Range(str, several=True) in self.ranges

    @property
    def numeric(self) -> bool:
        return any(one.kind in (int, float) for one in self.ranges)

    def refusal(self, key: str, value: Any, default: Any) -> str:
        """The sentence for a value that is not allowed. default: an example, where it is one."""
        if not self.ranges:
            return f"{key} is {joined([written(choice) for choice in self.choices])}, not {value!r}."
        taken = joined([*(one.words() for one in self.ranges), *map(written, self.choices)], last=", or ")
        example = (
            f", such as {default!r}," if default != [] and any(one.admits(default) for one in self.ranges) else ","
        )
        return f"{key} takes {taken}{example} not {value!r}."


def joined(items: list[str], last: str = " or ") -> str:
    """Items with commas between, and `last` before the last."""
    return last.join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else items[0]


def written(choice: Any) -> str:
    """A value as YAML writes it."""
    if choice is None:
        return "null"
    return str(choice).lower() if isinstance(choice, bool) else str(choice)


def read_limit(words: str, default: Any) -> Limit:
    """The limit that the words in a bracket state. default: the value beside them, which shows the kind of numbers.

    Raises ValueError, with a reason, for words that state none and for a default that is beyond its own limit.
    """
    import yaml

    ranges: list[Range] = []
    choices: list[Any] = []
    for alternative in filter(None, re.split(r"\s*,\s*(?:or )?|\s+or\s+", words.strip())):
        numbers = NUMBERS.fullmatch(alternative)
        if alternative in ("any text", "list of text"):
            ranges.append(Range(str, several=alternative == "list of text"))
        elif numbers and (numbers[2] or numbers[3]):
            ranges.append(range_of(numbers, words, default))
        else:
            choices.append(yaml.load(alternative, yaml.CSafeLoader))
    limit = Limit(tuple(ranges), tuple(choices))
    if isinstance(default, str) and (default == "???" or "${" in default) or limit.admits(default):
        return limit
    raise ValueError(f"its value {written(default)} is not within [{words}]")


def range_of(numbers: re.Match[str], words: str, default: Any) -> Range:
    kind = {"whole number": int, "number": float}.get(numbers[2]) or kind_of_number(default)
    if kind is None:
        raise ValueError(f"[{words}] says neither `number` nor `whole number`, and the default does not show which")
    bounds = tuple((sign, float(bound)) for sign, bound in re.findall(BOUND, numbers[3]))
    return Range(kind, bounds, several=bool(numbers[1]))


def kind_of_number(default: Any) -> type | None:
    """int or float, as a default or the items of a list show it; None if they do not."""
    items = default if isinstance(default, list) else [default]
    kinds = {type(item) for item in items} - {str}
    if not kinds or not kinds <= {int, float}:
        return None
    return float if float in kinds else int


def limit_by_default(default: Any) -> Limit:
    """The limit of a setting whose comment states none. default: plain data; "???" where the setting must be given."""
    if default is None:
        return Limit((Range(str),), (None,))
    if isinstance(default, (bool, int, float, str)):
        return Limit((Range(type(default)),))
    if isinstance(default, list) and all(isinstance(item, str) for item in default):
        return Limit((Range(str, several=True),))
    return Limit()
