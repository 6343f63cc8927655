"""Settings of one's own (--config-dir): parts bring their choices and limits, and experiments are checked as if typed."""

import pytest

from asr.config.checks import check_overrides
from asr.config.help import help_text
from asr.config.schema import schema_of
from asr.config.settings import OWN, compose, default_choices, groups, knobs_of
from asr.errors import UserError

FILES = {
    "attention/mine": "name: i_clustered\nclusters: 7  # [>= 3] clusters\ntopk: ${topk}\nbits: 31\niterations: 5\n",
    "decoder/mine": "# Mine\ndefaults:\n  - wfst\n  - _self_\nbeam: 20.0\n",
    "experiment/mine": "# @package _global_\ndefaults:\n  - override /attention: mine\nseed: 5\n",
    "mine": "defaults:\n  - train\n  - override attention: mine\n  - _self_\n",
}


@pytest.fixture
def own(tmp_path):
    OWN[:] = [tmp_path]
    for name, text in FILES.items():
        write(tmp_path, name, text)
    yield tmp_path
    OWN.clear()


def write(folder, name, text):
    file = folder / f"{name}.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def refused(name, *typed):
    with pytest.raises(UserError) as error:
        check_overrides(name, list(typed))
    return str(error.value)


def test_a_folder_of_ones_own_adds_choices_experiments_and_whole_configurations(own):
    for typed in (["attention=mine"], ["experiment=mine"]):
        check_overrides("train", typed)
        assert compose("train", typed).attention.clusters == 7
    assert "mine" in groups()["attention"] and knobs_of("mine") == ["topk"]
    assert default_choices("mine") == {**default_choices("train"), "attention": "mine"}
    check_overrides("mine", ["topk=3"])
    assert "does not read 'clusters'" in refused("train", "attention=mine", "clusters=3")
    assert "    mine     Mine" in help_text("train", "", "")


def test_a_part_of_ones_own_brings_its_limits_and_keeps_those_of_what_it_extends(own):
    said = refused("train", "attention=mine", "attention.clusters=2")
    assert said == "attention.clusters takes a whole number of 3 or more, such as 7, not 2."
    assert (
        "topk takes a whole number of 1 or more" in refused("train", "attention=mine", "attention.topk=0").split(".")[1]
    )
    assert "decoder.beam takes a number above 0, such as 20.0" in refused("train", "decoder=mine", "decoder.beam=0")
    assert schema_of("train", ["decoder=mine"]).comment("decoder.beam").startswith("how far below the best")


def test_a_part_of_ones_own_keeps_the_limits_of_what_it_extends(own):
    write(own, "decoder/mine", FILES["decoder/mine"].replace("20.0", "-1") + "mine: ???\nname: ''\n")
    assert refused("train", "decoder=mine").startswith(
        f"{own / 'decoder/mine.yaml'}: decoder.beam takes a number above 0"
    )


SETTINGS = {
    "clustres: 3": "There is no setting called 'clustres': did you mean clusters",
    "encoder:\n  layer: 3": "There is no setting called 'encoder.layer': did you mean encoder.layers",
    "encoder:\n  layers: 0": "encoder.layers takes a whole number of 1 or more, such as 4, not 0.",
    "optimizer:\n  lrr: 0.1": "There is no setting called 'optimizer.lrr': did you mean optimizer.lr",
    "corpus:\n  path: x": "There is no setting called 'corpus.path' for corpus=spoken: add corpus=common_voice or",
}


@pytest.mark.parametrize("text", SETTINGS)
def test_a_mistake_in_an_experiment_is_answered_as_if_typed_and_names_the_file(text, own):
    write(own, "experiment/mine", f"# @package _global_\n{text}\n")
    assert refused("train", "experiment=mine").startswith(f"{own / 'experiment/mine.yaml'}: {SETTINGS[text]}")
    write(own, "mine", f"defaults:\n  - train\n  - _self_\n{text}\n")
    assert refused("mine").startswith(f"{own / 'mine.yaml'}: {SETTINGS[text]}")


@pytest.mark.parametrize(
    "text",
    [
        "optimizer:\n  maximize: true",  # torch's own
        "trainer:\n  gradient_clip_algorithm: norm",
        "speech: 2.0\ncorpus:\n  hours: ${speech}",
        "defaults:\n  - override /corpus: folder\ncorpus:\n  path: x",
        "hydra:\n  verbose: true",
    ],
)
def test_an_experiment_may_set_what_a_library_takes_and_name_values_of_its_own(text, own):
    write(own, "experiment/mine", f"# @package _global_\n{text}\n")
    check_overrides("train", ["experiment=mine"])


@pytest.mark.parametrize("text", ["seed: 2\n", "# My experiment\n# @package _global_\nseed: 2\n"])
def test_an_experiment_that_would_change_nothing_is_refused(text, own):
    write(own, "experiment/mine", text)
    assert refused("train", "experiment=mine").startswith(f"{own / 'experiment/mine.yaml'}: begin its first line with")


def test_a_file_that_is_no_yaml_or_no_text_is_named(own):
    write(own, "experiment/mine", "# @package _global_\na: [1\n")
    said = refused("train", "experiment=mine")
    assert said.startswith("A configuration is not valid YAML: ") and f"{own / 'experiment/mine.yaml'}" in said
    (own / "experiment/mine.yaml").write_bytes(b"# @package _global_\nseed: 1 # \xff\n")
    assert refused("train", "experiment=mine") == f"A configuration in {own} is not UTF-8. Save it so."
