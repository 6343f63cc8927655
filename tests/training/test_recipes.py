"""The paper's recipes: every model of its Figure 1 and Tables 1 to 3 is one file with the hyper-parameters of its section C.3."""

import pytest
from omegaconf import OmegaConf

from asr.config.settings import compose, groups, knobs_of, plain
from asr.model.network import Model
from asr.training.setup import describe

# recipe: attention, layers, its knobs; for those that are fine-tuned, the recipe they start from
WSJ = {
    "full": ("full", 9, {}, None),
    "full_6_layers": ("full", 6, {}, None),
    "full_4_layers": ("full", 4, {}, None),
    "shared_full": ("shared_full", 9, {}, None),
    "lsh_1": ("lsh", 9, {"rounds": 1, "chunk": 32}, None),
    "lsh_4": ("lsh", 9, {"rounds": 4, "chunk": 32}, None),
    "clustered_100": ("clustered", 9, {"clusters": 100}, None),
    "clustered_200": ("clustered", 9, {"clusters": 200}, "clustered_100"),
    "clustered_300": ("clustered", 9, {"clusters": 300}, "clustered_100"),
    "i_clustered_100": ("i_clustered", 9, {"clusters": 100}, None),
    "i_clustered_200": ("i_clustered", 9, {"clusters": 200}, "i_clustered_100"),
    "i_clustered_100_6_layers": ("i_clustered", 6, {"clusters": 100}, None),
    "i_clustered_200_6_layers": ("i_clustered", 6, {"clusters": 200}, "i_clustered_100_6_layers"),
}
SWITCHBOARD = {
    "full": ("full", 12, {}, None),
    "full_8_layers": ("full", 8, {}, None),
    "full_6_layers": ("full", 6, {}, None),
    "clustered_100": ("clustered", 12, {"clusters": 100}, None),
    "clustered_200": ("clustered", 12, {"clusters": 200}, "clustered_100"),
    "clustered_300": ("clustered", 12, {"clusters": 300}, "clustered_100"),
    "i_clustered_100": ("i_clustered", 12, {"clusters": 100}, None),
    "i_clustered_200": ("i_clustered", 12, {"clusters": 200}, "i_clustered_100"),
    "i_clustered_100_8_layers": ("i_clustered", 8, {"clusters": 100}, None),
    "i_clustered_200_8_layers": ("i_clustered", 8, {"clusters": 200}, "i_clustered_100_8_layers"),
}
# mels, learning rate, epochs of fine-tuning
CORPORA = {"wsj": (WSJ, 40, 1e-4, 15), "switchboard": (SWITCHBOARD, 80, 2e-4, 5)}
# loss, hidden states per output, and the metric that chooses the weights, with its decoder
LOSSES = {"wsj": ("ctc", 1, "auto", "greedy"), "switchboard": ("lfmmi", 3, "wer", "wfst")}
RECIPES = [(corpus, recipe) for corpus, (recipes, *_) in CORPORA.items() for recipe in recipes]
# beside the knobs in the tables above (C.3.1, C.3.2)
HASHED = {"space": "hash", "bits": 63, "seeds": "even", "iterations": 10}
KNOBS = {"clustered": HASHED, "i_clustered": {**HASHED, "topk": 32}}


def test_every_recipe_is_in_the_tables_above():
    files = {name for name in groups()["experiment"] if name.partition("/")[0] in CORPORA}
    others = {"wsj/lfmmi", *(f"{corpus}/paper" for corpus in CORPORA)}
    assert files == {f"{corpus}/{recipe}" for corpus, recipe in RECIPES} | others


@pytest.mark.parametrize("corpus, recipe", RECIPES)
def test_a_recipe_has_the_papers_hyper_parameters(corpus, recipe):
    recipes, mels, rate, epochs = CORPORA[corpus]
    attention, layers, knobs, source = recipes[recipe]
    config = compose("train", [f"experiment={corpus}/{recipe}"])
    assert not OmegaConf.missing_keys(config)
    chosen = plain(config.attention)
    assert chosen.pop("name") == attention
    assert {key: chosen[key] for key in knobs_of(attention)} == KNOBS.get(attention, {}) | knobs
    encoder = config.encoder
    assert (encoder.layers, encoder.heads, encoder.head_dim, encoder.feed_forward) == (layers, 6, 32, 768)
    assert encoder.subsampling == 1
    assert (config.corpus.name, config.features.mels, config.units.name) == (corpus, mels, "phonemes")
    loss, *chosen_by = LOSSES[corpus]
    assert config.loss.name == config.head.name == loss and plain(config.head.loss) == plain(config.loss)
    assert [encoder.output_subsampling, config.metric, config.decoder.name] == chosen_by
    assert config.optimizer._target_ == "torch.optim.RAdam" and config.optimizer.decoupled_weight_decay
    assert config.optimizer.weight_decay == 0.01 and config.trainer.gradient_clip_val == 10.0
    assert config.schedule.name == "plateau"
    assert config.trainer.find_batch and config.trainer.validations == config.max_epochs
    if source is None:
        assert config.optimizer.lr == rate and config.init_from is None
        assert config.stop_after is not None
    else:
        assert (config.optimizer.lr, config.max_epochs, config.init_from) == (1e-5, epochs, "RUN")
        assert config.stop_after is None
        before = compose("train", [f"experiment={corpus}/{source}"])
        # what it starts from is the same model, but for the number of clusters
        assert plain(before.encoder) == plain(config.encoder) and plain(before.units) == plain(config.units)
        assert {**plain(before.attention), "clusters": chosen["clusters"]} == plain(config.attention)


@pytest.mark.parametrize("corpus, recipe", RECIPES)
def test_the_model_of_a_recipe_can_be_built(corpus, recipe):
    description = describe(compose("train", [f"experiment={corpus}/{recipe}"]))
    description["features"]["sample_rate"], description["units"] = 16000, 43
    Model(description)


def test_wsj_with_lattice_free_mmi_has_the_numbers_of_kaldis_flat_start():
    config = compose("train", ["experiment=wsj/lfmmi"])
    assert plain(config.loss) == {
        "name": "lfmmi", "order": 4, "keep": 3, "extra": 2000, "edge": 0.8, "between": 0.2, "pronunciations": "all",
        "leak": 0.1, "l2": 2e-5,
    }  # fmt: skip
    assert plain(config.topology) == plain(config.head.topology) == {"name": "chain", "context": "none", "min_count": 0}
    assert (config.encoder.subsampling, config.encoder.output_subsampling, config.decoder.name) == (1, 3, "phones")
    assert list(config.features.speed_perturbation) == [0.9, 1.0, 1.1] and config.features.spec_augment is None


def test_the_built_in_corpus_with_lattice_free_mmi_is_trained_as_by_loss_lfmmi():
    one, other = (compose("train", [typed]) for typed in ("experiment=spoken/lfmmi", "loss=lfmmi"))
    differing = [key for key in one if key not in ("run", "experiment", "hydra") and one[key] != other[key]]
    assert not differing


@pytest.mark.parametrize("recipe", ["wsj/lfmmi", "spoken/lfmmi"])
def test_the_models_of_the_recipes_beside_the_papers_can_be_built(recipe):
    description = describe(compose("train", [f"experiment={recipe}"]))
    description["features"]["sample_rate"], description["units"] = 16000, 43
    assert Model(description).topology.outputs == 2 * 42 and Model(description).seconds_per_emission == 0.03


def test_typed_settings_override_a_recipe():
    config = compose("train", ["experiment=wsj/i_clustered_100", "clusters=50", "attention=clustered", "max_epochs=2"])
    assert plain(config.attention)["name"] == "clustered" and plain(config.attention)["clusters"] == 50
    assert config.max_epochs == config.trainer.validations == 2
