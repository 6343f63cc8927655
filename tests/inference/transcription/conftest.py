"""A model that hears tones, and a folder to work in."""

import pytest

from tests.support.tones import tone_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tone_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path
