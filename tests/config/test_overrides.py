"""The command line: a value is what was typed, whatever Hydra's grammar makes of the signs in it."""

import os
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from asr.config.overrides import TypedSetting, as_hydra_takes, escaped, parsed, parted, shown, typed_text
from asr.config.schema import schema_of
from asr.config.settings import compose
from asr.errors import UserError

HOME = os.path.expanduser("~")


def arrived(config_name, *arguments):
    """The plain configuration that Hydra composes of what was typed."""
    taken = as_hydra_takes(config_name, list(arguments))
    # what a process started by another one is given, and what is typed again, comes out the same
    assert as_hydra_takes(config_name, taken) == taken
    return OmegaConf.to_container(compose(config_name, taken), resolve=True)


FOLDER = schema_of("train", ["corpus=folder"])


def path_of(typed):
    """What `corpus.path` is of a value that was typed, by Hydra's grammar and OmegaConf's interpolation."""
    taken = TypedSetting("corpus.path", FOLDER, own=False, several=False).as_hydra_takes(typed)
    config = OmegaConf.merge(
        FOLDER.config, {"corpus": {"path": getattr(parsed("corpus.path", taken), "text", parsed("", taken))}}
    )
    return config.corpus.path


PATHS = [
    "/home/büro/speech", "/data/模型", "/data/lang=en", "/data/it's", "take(1)", "a&b", "x#1", "v[2]", "[2]", "[2", "{a", "(",
    "{a: b}", "a b", " a ", "  ", "a,b", "a\\,b", "\\t", "\\", "a\\", 'a"b', '"a', "a'", "'", "50%", "%(x)s", "$HOME", "$", "a${",
    "🙂", "a;b", "a: b", "a|b", "<a>", "!a", "*", "-", "--x", "+a", "@a", "^", "`a`", "2024", "007", "1e3", "nan", "inf", "true",
    "off", "null", "range(1,3)", "choice(a,b)", "str(1)", "a~b", "${", "}", "a\tb", "é",
    "e\u0301", "a=b=c",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=ascii)
def test_a_path_arrives_as_it_was_typed(path):
    assert path_of(path) == path


@pytest.mark.parametrize("path", ["/home/büro/lang=en", "a,b", "a${b\\", "true", " it's "])
def test_hydra_itself_gives_what_was_typed(path):
    assert (
        arrived("train", "corpus=folder", f"corpus.path={path}", f"run={path}" if "$" not in path else "seed=2")[
            "corpus"
        ]["path"]
        == path
    )


# what keeps the meaning that it has in Hydra is below; ??? is a value that is missing
def kept_by_hydra(text):
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return quoted or "${" in text or text in ("", "???")


def begins_with_a_home(text):
    return os.path.normpath(text).startswith("~")


LETTERS = st.one_of(
    st.sampled_from(string.punctuation), st.characters(blacklist_categories=["Cs"], blacklist_characters="\n\r\0")
)


@settings(max_examples=150, deadline=None)
@given(
    st.text(LETTERS, min_size=1, max_size=12).filter(lambda text: not (kept_by_hydra(text) or begins_with_a_home(text)))
)
def test_any_text_arrives_as_it_was_typed(text):
    assert path_of(text) == os.path.expanduser(text)


@settings(max_examples=50, deadline=None)
@given(st.text(st.sampled_from("\\${}'\"a."), max_size=12))
def test_a_text_put_into_a_configuration_is_never_interpolated(text):
    assert OmegaConf.create({"files": escaped([text]), "a": "b"}).files[0] == text


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("~/speech", f"{HOME}/speech"), ("~", HOME), ('"~/a,b"', f"{HOME}/a,b"), ('"/data/lang=en"', "/data/lang=en"),
        ("'a b'", "a b"), ('"a\\"b"', 'a"b'), ("${cache}/x", ".cache/x"), ("${cache}/ü=1", ".cache/ü=1"),
        ("\\${cache}", "${cache}"), ("ü${nothing.there}", "ü${nothing.there}"),
    ],
)  # fmt: skip
def test_quotes_around_the_whole_interpolations_and_the_home_folder_mean_what_they_do_in_hydra_or_a_shell(typed, meant):
    assert path_of(typed) == meant


@pytest.mark.parametrize("typed", ["~no-such-user", "~no-such-user/speech", '"~no-such-user"'])
def test_the_home_of_nobody_is_refused_unless_a_file_has_that_name(typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no user 'no-such-user'.* typed \./~no-such-user"):
        path_of(typed)
    (tmp_path / "~no-such-user/speech").mkdir(parents=True)
    assert path_of(typed) == str(tmp_path / typed.strip('"'))
    assert path_of("./~new") == typed_text("./~new") == parted("output=./~new")[2] == str(tmp_path / "~new")


@pytest.mark.parametrize("name", ["'a'", '"a"', "${cache}", "\\${cache}", "${nothing}", "null"])
def test_a_name_of_something_that_is_there_is_that_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    assert path_of(name) == name
    assert typed_text(name) == name


def test_every_setting_that_takes_text_takes_any():
    schema = schema_of("train", ["corpus=wsj", "decoder=wfst", "logger=wandb"])
    keys = [key for key in schema.keys if schema.limit(key).free_text and not key.endswith(("name", "_target_"))]
    assert {"cache", "init_from", "corpus.wsj0", "decoder.lm", "units.lexicon", "logger.wandb.project"} <= set(keys)
    typed = [f"{key}=7" for key in keys if key != "run"]
    given = compose("train", as_hydra_takes("train", ["corpus=wsj", "decoder=wfst", "logger=wandb", *typed]))
    assert {OmegaConf.select(given, key) for key in keys if key != "run"} == {"7"}


def test_null_is_nothing_where_a_setting_may_be_null_and_a_name_where_it_may_not():
    config = arrived("train", "corpus=wsj", "init_from=null", "corpus.wsj0=null", "cache=null")
    assert config["init_from"] is None and config["corpus"]["wsj0"] is None and config["cache"] == "null"
    assert not FOLDER.limit("corpus.path").nullable


def test_a_list_of_paths_holds_them_as_they_were_typed():
    config = arrived("cross_evaluate", "checkpoints=[~/a, runs/lang=en,2024,büro,it's]", "attentions=[full,lsh-4]")
    assert config["checkpoints"] == [f"{HOME}/a", "runs/lang=en", "2024", "büro", "it's"]
    assert config["attentions"] == ["full", "lsh-4"]
    assert arrived("cross_evaluate", "checkpoints=2024", "attentions=full")["checkpoints"] == "2024"
    assert arrived("tune_decoder", "checkpoint=a", "lm_weights=[0,1.5]")["lm_weights"] == [0, 1.5]


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("corpus.path=~/a,/data/lang=en,2024", f'corpus.path={HOME}/a,"/data/lang=en","2024"'),
        ('corpus.path="/a,b",/lang=en', 'corpus.path="/a,b","/lang=en"'),
        ("corpus.path=it's,=b's", 'corpus.path="it\'s","=b\'s"'),
        ('corpus.path="/data/a,b",c', 'corpus.path="/data/a,b",c'),
        ("corpus.path=a, b", "corpus.path=a,b"),
        ("seed=1,2", "seed=1,2"),
        ("seed=range(1,3)", "seed=range(1,3)"),
        ("corpus.path=choice(a,b)", "corpus.path=choice(a,b)"),
    ],
)  # fmt: skip
def test_with_multirun_a_comma_stands_between_values(typed, taken):
    assert as_hydra_takes("train", ["-m", "corpus=folder", typed]) == ["-m", "corpus=folder", taken]


def test_a_key_that_cannot_be_one_is_said():
    with pytest.raises(UserError, match="there is no setting called 'fo o'"):
        as_hydra_takes("train", ["fo o=1"])


def test_a_setting_of_the_corpus_of_a_checkpoint_is_added_to_what_conf_knows():
    assert as_hydra_takes("evaluate", ["checkpoint=a", "corpus.path=ü"]) == ["checkpoint=a", '++corpus.path="ü"']
    assert as_hydra_takes("train", ["resume=a", "corpus.path=b"]) == ["resume=a", "++corpus.path=b"]
    assert as_hydra_takes("train", ["resume=a", "corpus=folder", "corpus.path=b"])[-1] == "corpus.path=b"
    assert as_hydra_takes("transcribe", ["checkpoint=a", "corpus.path=b"])[-1] == "corpus.path=b"


def test_a_setting_is_shown_without_the_signs_of_hydra():
    assert shown('++corpus.path="a=b"') == ("corpus.path", "a=b") and shown("seed=1") == ("seed", "1")
    assert parted("output=~/a=b") == ("output", "=", f"{HOME}/a=b") and parted("--help") == ("--help", "", "")
