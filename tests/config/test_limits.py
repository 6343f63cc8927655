"""What a setting may be stands in the comment beside it, and one parser reads it for the checks, --help and the docs."""

import math

import pytest
import yaml

from asr.config.comments import settings_of
from asr.config.limits import Limit, limit_by_default, read_limit
from asr.config.schema import stated_by
from asr.config.settings import CONF, OWN
from asr.errors import UserError

FILES = sorted(file for file in CONF.glob("**/*.yaml") if "experiment" not in file.parts)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(CONF).as_posix())
def test_every_number_states_its_limit_and_keeps_it(file):
    for setting in settings_of(file.read_text(encoding="utf8")):
        values = setting.value if isinstance(setting.value, list) else [setting.value]
        numeric = any(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
        assert setting.limit or not numeric, f"{setting.key} states no limit"
        if setting.limit:
            assert isinstance(read_limit(setting.limit, setting.value), Limit)


# what is beside it, what is in the brackets → what is taken, what is not, and what is said
LIMITS = [
    ("100", ">= 1", [1, 7], [0, 1.5, True, "a", None], "a whole number of 1 or more, such as 100,"),
    ("0.5", "> 0 and <= 1", [1, 0.1], [0, 1.1, math.nan], "a number above 0 and of at most 1, such as 0.5,"),
    ("0.5", ">= 0 and <= 1 or null", [0, 1, None], [-0.1], "a number from 0 to 1, or null, such as 0.5,"),
    ("auto", "whole number >= 0 or auto", [0, "auto"], ["aut", 0.5], "a whole number of 0 or more, or auto,"),
    ("null", "number", None, None, None),
    ("null", "number or null", [-1, 0.5, None], ["a", False], "a number, or null,"),
    (
        "[0.9, 0.98]",
        "list of numbers >= 0 and < 1",
        [[0.5], [0, 0.1]],
        [0.5, [1.0], ["a"]],
        "a list of numbers of 0 or more and",
    ),
    ("???", "list of text or any text", [["a", 7], "a", 7], [None, [], ""], "a list of text, or text,"),
    ("text", "text, json or null", ["text", "json", None], ["jsn", 1], None),
    ("auto", "auto, true or false", ["auto", True, False], [1, "true"], None),
    ("64", "bf16, 64 or 32-true", ["bf16", 64, "32-true"], ["64", 32], None),
]


@pytest.mark.parametrize("default, words, taken, refused, said", LIMITS)
def test_a_limit_takes_what_it_says(default, words, taken, refused, said):
    default = yaml.safe_load(default)
    if taken is None:
        with pytest.raises(ValueError, match="its value null is not within"):
            read_limit(words, default)
        return
    limit = read_limit(words, default)
    assert all(map(limit.admits, taken)) and not any(map(limit.admits, [value for value in refused if value != []]))
    sentence = limit.refusal("key", refused[0], default)
    assert sentence.endswith(f"not {refused[0]!r}.") and sentence.startswith(f"key takes {said}" if said else "key is ")


@pytest.mark.parametrize(
    "default, taken, refused",
    [(1, [2, -1], [0.5, "a"]), (1.0, [2], ["a"]), (True, [False], [1]), ("a", ["b", 7], [None]), (None, ["a", None], [True]),
     ([], [["a"]], ["a"]), ([1], ["anything"], []), ("???", ["a"], [None])],
)  # fmt: skip
def test_without_a_limit_the_default_shows_what_is_taken(default, taken, refused):
    limit = limit_by_default(default)
    assert all(map(limit.admits, taken)) and not any(map(limit.admits, refused))


@pytest.mark.parametrize("line", ["size: 1  # [>= 2] of it", "size: null  # [> 0 or null]", "size: 3  # [TODO] choose"])
def test_a_limit_that_cannot_be_read_or_is_not_kept_is_answered_with_file_and_key(line, tmp_path):
    OWN[:] = [tmp_path]
    (tmp_path / "units").mkdir()
    (tmp_path / "units/mine.yaml").write_text(f"{line}\n")
    try:
        with pytest.raises(UserError, match=rf"^{tmp_path}/units/mine.yaml: units.size: .* such as \[>= 1\]"):
            stated_by(["units/mine"])
    finally:
        OWN.clear()


def test_the_comment_of_a_setting_may_stand_beside_before_and_below_it():
    text = "# The file\nname: it\nfirst: 1   # [>= 1] one\n# [a or b] zero,\nsecond: a   # two\n           # and more\n"
    assert settings_of(text + "third:\n  inner: {}\n")[1:] == [
        ("first", "1", ">= 1", "one"),
        ("second", "a", "a or b", "zero, two and more"),
        ("third", "", "", ""),
        ("third.inner", "{}", "", ""),
    ]
