"""Whatever the programs are given: a sentence or a named skip, nothing half-written, no hanging, memory within bounds."""

import re
from collections import Counter

import pytest

from tests.support import hostile_inputs
from tests.support.hostile_inputs import MOST_MEMORY, meet
from tests.support.hostile_place import DROPPED, REFUSED, SKIPPED, STOPPED, USED

pytestmark = pytest.mark.run

CASES = hostile_inputs.cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.key)
def test_a_hostile_input_ends_in_a_sentence_or_a_named_skip(case, tmp_path):
    outcome = meet(case, tmp_path / "here")
    if isinstance(outcome, str):
        pytest.skip(f"{case.name}: {outcome}")
    said = outcome.errors + outcome.dropped + outcome.output
    assert "Traceback" not in outcome.errors
    assert re.search(case.says, said, re.MULTILINE), said
    assert outcome.memory is None or outcome.memory < MOST_MEMORY
    assert not [path for path in outcome.left if path.startswith("tmp/") or "/." in path or path.startswith(".")]
    if case.outcome == REFUSED:
        assert (outcome.code, outcome.left) == (2, []), said
    elif case.outcome == STOPPED:
        assert outcome.code == 2 and any(path.endswith("run/config.yaml") for path in outcome.left)
    elif outcome.program == "transcribe.py":
        assert outcome.code == (1 if case.outcome == SKIPPED else 0), said
        assert "good.wav\t" in outcome.output
    elif case.outcome == DROPPED:
        assert outcome.code == 0 and "unusable, and dropped" in outcome.output, said
        assert re.search(case.says, outcome.dropped) and len(outcome.dropped.splitlines()) == 2
    elif case.outcome == USED:
        assert outcome.code == 0 and "Nothing was dropped" in outcome.output, said
    else:
        assert outcome.code == 0, said
        assert {"run/model/model.safetensors", "run/evaluation/test/full/scores.json"} <= set(outcome.left)
        # a header, and what was dropped
        assert len(outcome.dropped.splitlines()) == 2


def test_the_table_is_as_long_as_it_should_be():
    counts = Counter(case.outcome for case in CASES)
    assert counts[REFUSED] + counts[DROPPED] + counts[SKIPPED] >= 100 and counts[USED] >= 10
    assert {case.category for case in CASES} == {
        "audio to train on", "audio to transcribe", "text", "manifest", "checkpoint", "place"
    }  # fmt: skip
