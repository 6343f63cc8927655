"""Whisper from a file in CTranslate2's format, a tiny random one, and the table of what it recognized."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import numpy
import pytest
import torch

from asr.errors import UserError
from asr.model.attention import attentions

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import evaluate_whisper  # noqa: E402
import whisper  # noqa: E402

DIM, LAYERS, WORDS = 64, 2, whisper.NO_TIMESTAMPS + 1


def name(text):
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def model_bin(weights, aliases, kind="WhisperSpec"):
    content = struct.pack("<I", 6) + name(kind) + struct.pack("<II", 3, len(weights))
    for key, array in weights.items():
        dtype = {"float32": 0, "int8": 1, "float16": 4}[str(array.dtype)]
        content += name(key) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        content += struct.pack("<BI", dtype, array.nbytes) + array.tobytes()
    content += struct.pack("<I", len(aliases))
    return content + b"".join(name(alias) + name(key) for alias, key in aliases.items())


@pytest.fixture(scope="module")
def weights():
    draw, made = numpy.random.default_rng(0), {}

    def linear(key, rows, columns=DIM):
        made[f"{key}/weight"] = (draw.normal(size=(rows, columns)) * 0.2).astype(numpy.float16)
        made[f"{key}/bias"] = draw.normal(size=rows).astype(numpy.float32)

    def norm(key):
        made[f"{key}/layer_norm/gamma"] = numpy.ones(DIM, numpy.float32)
        made[f"{key}/layer_norm/beta"] = numpy.zeros(DIM, numpy.float32)

    for number, inside in ((1, whisper.BANDS), (2, DIM)):
        made[f"encoder/conv{number}/weight"] = (draw.normal(size=(DIM, inside, 3)) * 0.1).astype(numpy.float32)
        made[f"encoder/conv{number}/bias"] = numpy.zeros(DIM, numpy.float32)
    for side in ("encoder", "decoder"):
        made[f"{side}/position_encodings/encodings"] = draw.normal(size=(1500, DIM)).astype(numpy.float32)
        norm(side)
        for layer in range(LAYERS):
            key = f"{side}/layer_{layer}"
            norm(f"{key}/self_attention")
            linear(f"{key}/self_attention/linear_0", 3 * DIM)
            linear(f"{key}/self_attention/linear_1", DIM)
            norm(f"{key}/ffn")
            linear(f"{key}/ffn/linear_0", 2 * DIM)
            linear(f"{key}/ffn/linear_1", DIM, 2 * DIM)
            if side == "decoder":
                norm(f"{key}/attention")
                for number, rows in ((0, DIM), (1, 2 * DIM), (2, DIM)):
                    linear(f"{key}/attention/linear_{number}", rows)
    made["decoder/embeddings/weight"] = draw.normal(size=(WORDS, DIM)).astype(numpy.float32)
    return made


@pytest.fixture
def folder(weights, tmp_path):
    (tmp_path / "model.bin").write_bytes(model_bin(weights, {"decoder/projection/weight": "decoder/embeddings/weight"}))
    vocabulary = {f"Ġw{number}": number for number in range(whisper.END_OF_TEXT)}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}), encoding="utf8")
    return tmp_path


def test_weights_are_read_in_float32_with_their_aliases(folder, weights):
    read = whisper.read_weights(folder / "model.bin")
    assert len(read) == len(weights) + 1
    assert all(torch.equal(read[key], torch.from_numpy(array).float()) for key, array in weights.items())
    assert torch.equal(read["decoder/projection/weight"], read["decoder/embeddings/weight"])


def test_files_that_are_none_or_quantized_are_refused_in_a_sentence(folder, weights):
    file = folder / "model.bin"
    whole = file.read_bytes()
    quantized = weights | {"decoder/embeddings/weight": weights["decoder/embeddings/weight"].astype(numpy.int8)}
    for content, sentence in [
        (whole[:1000], "cannot be read as a CTranslate2 model"),
        (b"RIFF", "cannot be read as a CTranslate2 model"),
        (model_bin(weights, {}, "TransformerSpec"), "holds a TransformerSpec, not Whisper"),
        (model_bin(quantized, {}), "holds quantized weights"),
    ]:
        file.write_bytes(content)
        with pytest.raises(UserError, match=sentence):
            whisper.read_weights(file)


def test_the_encoder_takes_any_attention_and_all_keys_are_full_attention(folder):
    model = whisper.Whisper(folder)
    mel = whisper.log_mel(torch.randn(16000, generator=torch.Generator().manual_seed(0)), padded=False)[None]
    assert mel.shape == (1, whisper.BANDS, 100) and whisper.log_mel(torch.zeros(100)).shape == (whisper.BANDS, 3000)
    full = model.encode(mel)
    assert full.shape == (1, 50, DIM)
    for settings, near in (({"name": "topk", "topk": 50}, True), ({"name": "clustered", "clusters": 2}, False)):
        model.attend = [attentions.create(settings, seed=layer) for layer in range(LAYERS)]
        assert torch.allclose(model.encode(mel), full, atol=1e-4) == near


def test_text_is_bytes_of_characters(folder):
    model = whisper.Whisper(folder)
    text = model.transcribe(model.encode(torch.zeros(1, whisper.BANDS, 20)))
    assert text.startswith(" w") and len(text.split()) <= whisper.LONGEST_TEXT
    model.tokens = {0: "Ġna", 1: "Ã¯", 2: "ve", 3: "Ã"}
    assert model.text([0, 1, 2]) == " naïve" and model.text([3]) == "\ufffd"


def test_labels_may_set_knobs_and_mistakes_are_sentences():
    settings = evaluate_whisper.attention_settings("i_clustered-100:space=hash:iterations=10")
    assert settings == {"name": "i_clustered", "clusters": 100, "space": "hash", "iterations": 10}
    for label, sentence in {
        "i_clusterd-100": "did you mean i_clustered",
        "full:topk=3": "takes no setting 'topk'",
        "i_clustered:space=bits": "must be one of hash, queries, scores",
    }.items():
        with pytest.raises(UserError, match=sentence):
            evaluate_whisper.attention_settings(label)
    with pytest.raises(UserError, match="model=FOLDER is needed"):
        evaluate_whisper.parse_arguments(["prompts=3"])
    with pytest.raises(UserError, match="prompts takes a whole number"):
        evaluate_whisper.parse_arguments(["model=x", "prompts=few"])


def test_both_texts_are_normalized_alike():
    assert (
        evaluate_whisper.heard(" Press 1, or #, for $1,000! ♪")
        == "press one or pound for dollar one zero zero zero".split()
    )


def test_the_table_pairs_prompts_with_those_of_the_first_attention(tmp_path):
    prompts = [evaluate_whisper.Prompt(str(number), Path(), ["a", "b"]) for number in range(20)]
    right = {prompt.name: (0.5, ["a", "b"]) for prompt in prompts}
    rows = evaluate_whisper.table_of(prompts, {"full": right, "uniform": right | {"3": (0.5, ["a"])}})
    assert (
        [row["wer"] for row in rows] == [0, 2.5] and rows[1]["difference"] == 2.5 and rows[0]["encoder_seconds"] == 10
    )
    assert rows[1]["difference_low"] <= 0 < rows[1]["difference_high"] and rows[0]["difference_high"] == 0
    text = evaluate_whisper.write_table(tmp_path, rows, "python x")
    assert "| uniform | 2.50 |" in text and (tmp_path / "table.csv").read_text().count("\n") == 3


def test_a_line_that_is_cut_short_is_computed_again(tmp_path):
    file = tmp_path / "full.tsv"
    file.write_text("a\t0.5\tone two\nb\t0.5\t\nc\t0.5\tthr")
    assert evaluate_whisper.read_hypotheses(file) == {"a": (0.5, ["one", "two"]), "b": (0.5, [])}
