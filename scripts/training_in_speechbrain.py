"""SpeechBrain's side of scripts/benchmark_training.py, run as a separate process that needs nothing but SpeechBrain.

Three ways: `same` is our model built from SpeechBrain's parts (stacked frames, sinusoidal positions, its default attention) on
our batches; `rope` is `same` with the attention of its newest recipes, on PyTorch's fused kernels; `recipe` is its recipe
LibriSpeech/ASR/transformer, with a convolutional front end that subsamples by four, and its own dynamic batches.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from contestant import drained, serve, timed  # noqa: E402

from asr.errors import UserError  # noqa: E402

WAYS = ("same", "rope", "recipe")
PRECISIONS = {"32-true": "fp32", "bf16-mixed": "bf16", "16-mixed": "fp16"}


class SpeechBrain:
    """job: the file from `training_in_asr.Ours.write_job`. way: one of WAYS. folder: for checkpoints and logs."""

    def __init__(self, job: Path, way: str, folder: Path):
        try:
            import speechbrain
        except ImportError as error:
            raise UserError(f"{sys.executable} has no SpeechBrain ({error}): pip install speechbrain there.") from None
        import torch

        self.speechbrain, self.torch = speechbrain, torch
        self.job, self.way, self.folder = json.loads(job.read_text(encoding="utf8")), way, folder
        torch.set_num_threads(self.job["threads"])
        torch.set_float32_matmul_precision(self.job["matmul_precision"])
        torch.manual_seed(1)
        self.data = self.make_data()
        self.batches = self.make_batches()
        seconds = [utterance["seconds"] for utterance in self.job["utterances"]]
        self.audio = [sum(seconds[index] for index in batch) for batch in self.batches]
        self.brain = self.make_brain(None)
        self.brain.on_fit_start()
        self.brain.modules.train()
        wanted = self.batches[: self.job["stage_batches"]]
        collate = speechbrain.dataio.batch.PaddedBatch
        self.stage_batches = [collate([self.data[index] for index in batch]) for batch in wanted]
        self.stage_seconds = sum(self.audio[: len(wanted)])

    def functions(self) -> dict[str, Any]:
        return {
            "describe": self.describe,
            "filter bank": lambda: self.stage(lambda batch: self.brain.modules.filter_bank(batch.waveform.data)),
            "data loading": self.data_loading,
            "forward": lambda: self.stage(self.forward),
            "forward + backward": lambda: self.stage(self.forward_backward),
            "step": lambda: self.stage(self.step),
            "loop": self.loop,
        }

    def describe(self) -> dict[str, Any]:
        return {
            "parameters": sum(parameter.numel() for parameter in self.brain.modules.parameters()),
            "machine": f"speechbrain {self.speechbrain.__version__}, torch {self.torch.__version__}",
        }

    def make_data(self):
        from speechbrain.dataio.dataio import read_audio
        from speechbrain.dataio.dataset import DynamicItemDataset
        from speechbrain.utils.data_pipeline import provides, takes

        torch = self.torch

        @takes("file", "start", "stop")
        @provides("waveform")
        def waveform(file, start, stop):
            return read_audio({"file": file, "start": start, "stop": stop})

        @takes("labels")
        @provides("tokens")
        def tokens(labels):
            return torch.tensor(labels, dtype=torch.int64)

        utterances = {
            utterance["id"]: {
                **{key: utterance[key] for key in ("file", "start", "stop", "labels")},
                "duration": utterance["seconds"],
            }
            for utterance in self.job["utterances"]
        }
        return DynamicItemDataset(utterances, [waveform, tokens], ["id", "waveform", "tokens"])

    def make_batches(self) -> list[list[int]]:
        if self.way != "recipe":
            return self.job["batches"]
        from speechbrain.dataio.sampler import DynamicBatchSampler

        sampler = DynamicBatchSampler(
            self.data, max_batch_length=self.job["batch_seconds"], num_buckets=20, shuffle=True
        )
        return list(sampler)[: len(self.job["batches"])]

    def make_brain(self, folder: Path | None):
        """A model with fresh weights and its optimizer. folder: for checkpoints; None for none."""
        from speechbrain.nnet.schedulers import NoamScheduler
        from speechbrain.utils.checkpoints import Checkpointer

        torch, job = self.torch, self.job
        modules = make_modules(job, self.way)
        settings = {key: value for key, value in job["optimizer"].items() if key != "_target_"}
        kind = getattr(torch.optim, job["optimizer"]["_target_"].rpartition(".")[2])
        noam = NoamScheduler(settings["lr"], n_warmup_steps=200)
        checkpointer = None
        if folder is not None:
            checkpointer = Checkpointer(folder, {"model": torch.nn.ModuleList(modules.values()), "noam": noam})
        options = {
            "device": job["device"], "precision": PRECISIONS[job["precision"]], "max_grad_norm": job["clip"] or float("inf"),
            "noprogressbar": True, "ckpt_interval_minutes": 0,
            "ckpt_interval_steps": job["checkpoint_steps"] if folder is not None else 0,
        }  # fmt: skip
        return brain_class()(
            modules, functools.partial(kind, **settings), {"noam": noam, "encoder": job["encoder"]}, options,
            checkpointer=checkpointer,
        )  # fmt: skip

    def data_loading(self) -> dict[str, Any]:
        return drained(self.make_loader(self.brain), self.audio)

    def make_loader(self, brain):
        workers = self.job["workers"]
        return brain.make_dataloader(
            self.data, self.speechbrain.Stage.TRAIN, batch_sampler=self.batches, num_workers=workers,
            prefetch_factor=4 if workers else None, pin_memory=self.job["device"] == "cuda",
        )  # fmt: skip

    def stage(self, function) -> dict[str, Any]:
        batches = [batch.to(self.job["device"]) for batch in self.stage_batches]
        return {"audio": self.stage_seconds, "seconds": timed(function, batches, self.synchronize)}

    def synchronize(self) -> None:
        if self.job["device"] == "cuda":
            self.torch.cuda.synchronize()

    def forward(self, batch):
        with self.brain.training_ctx:
            predictions = self.brain.compute_forward(batch, self.speechbrain.Stage.TRAIN)
            return self.brain.compute_objectives(predictions, batch, self.speechbrain.Stage.TRAIN)

    def forward_backward(self, batch) -> None:
        self.forward(batch).backward()
        self.brain.zero_grad(set_to_none=True)

    def step(self, batch) -> None:
        self.brain.fit_batch(batch)

    def loop(self) -> dict[str, Any]:
        """A whole training by `Brain.fit`, with a checkpoint in its middle, timed from step `warm_up` on."""
        from speechbrain.utils.epoch_loop import EpochCounter

        brain = self.make_brain(self.folder / f"loop-{time.monotonic_ns()}")
        brain.fit(EpochCounter(1), self.make_loader(brain))
        first, last = self.job["warm_up"] - 1, len(brain.ended) - 1
        waiting = sum(brain.began[step] - brain.ended[step - 1] for step in range(first + 1, last + 1))
        seconds = brain.ended[last] - brain.ended[first]
        return {"audio": sum(self.audio[first + 1 : last + 1]), "seconds": seconds, "waiting": waiting / seconds}


def make_modules(job: dict[str, Any], way: str) -> dict[str, Any]:
    """SpeechBrain's modules in the sizes of our description."""
    import speechbrain.augment.freq_domain
    import torch
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.convolution import ConvolutionFrontEnd
    from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR
    from speechbrain.nnet.linear import Linear
    from speechbrain.processing.features import InputNormalization

    features, encoder = job["features"], job["encoder"]
    rate, mels, dim = features["sample_rate"], features["mels"], encoder["heads"] * encoder["head_dim"]
    window, hop = 1000 * features["window_seconds"], 1000 * features["hop_seconds"]
    modules = {
        # the smallest transform for the window, which is its default at 16 kHz
        "filter_bank": Fbank(
            sample_rate=rate, n_mels=mels, win_length=window, hop_length=hop, n_fft=round(rate * window / 1000)
        ),
        "normalize": InputNormalization(norm_type="sentence", avoid_padding_norm=True),
    }
    masks = features["spec_augment"]
    if masks is not None:
        drop = speechbrain.augment.freq_domain.SpectrogramDrop
        for name, count, high, dimension in (
            ("mask_mels", masks["frequency_masks"], masks["frequency_width"] + 1, 2),
            # SpeechBrain's time masks have a fixed size: our share of an utterance of 8 s
            ("mask_times", masks["time_masks"], max(1, round(masks["time_share"] * 8 / features["hop_seconds"])), 1),
        ):
            modules[name] = drop(0, high, count, count, dim=dimension)
    if way == "recipe":
        modules["front_end"] = ConvolutionFrontEnd(
            (8, 10, mels), num_blocks=2, num_layers_per_block=1, out_channels=(64, 32), kernel_sizes=(3, 3), strides=(2, 2),
            residuals=(False, False), dropout=encoder["dropout"],
        )  # fmt: skip
        input_size = -(-mels // 4) * 32
    else:
        modules["front_end"] = stack_frames(encoder["subsampling"])
        input_size = mels * encoder["subsampling"]
    modules["encoder"] = TransformerASR(
        tgt_vocab=job["units"], input_size=input_size, d_model=dim, nhead=encoder["heads"], num_encoder_layers=encoder["layers"],
        num_decoder_layers=0, d_ffn=encoder["feed_forward"], dropout=encoder["dropout"], activation=torch.nn.GELU,
        normalize_before=encoder["norm"] == "pre", causal=False, max_length=10000,
        attention_type="RoPEMHA" if way == "rope" else "regularMHA",
    )  # fmt: skip
    modules["head"] = Linear(input_size=dim, n_neurons=job["units"])
    return modules


@functools.cache
def stack_frames(factor: int):
    import torch

    class StackFrames(torch.nn.Module):
        """(batch, time, mels) → (batch, ceil(time / factor), mels · factor)."""

        def forward(self, features):
            features = torch.nn.functional.pad(features, (0, 0, 0, -features.shape[1] % factor))
            return features.reshape(len(features), -1, features.shape[2] * factor)

    return StackFrames()


@functools.cache
def brain_class():
    import torch
    from speechbrain.core import Brain, Stage
    from speechbrain.nnet.losses import ctc_loss

    class Recognizer(Brain):
        """As in SpeechBrain's CTC recipes. began, ended: of each training step, in seconds."""

        began: list[float]
        ended: list[float]

        def compute_forward(self, batch, stage):
            batch = batch.to(self.device)
            waveforms, lengths = batch.waveform
            with torch.no_grad():
                features = self.modules.normalize(self.modules.filter_bank(waveforms), lengths)
                if stage == Stage.TRAIN and hasattr(self.modules, "mask_mels"):
                    features = self.modules.mask_times(self.modules.mask_mels(features))
            hidden = self.modules.encoder.encode(self.modules.front_end(features), lengths)
            return self.modules.head(hidden).float().log_softmax(-1), lengths

        def compute_objectives(self, predictions, batch, stage):
            tokens, token_lengths = batch.tokens
            return ctc_loss(predictions[0], tokens, predictions[1], token_lengths, blank_index=0)

        def on_stage_start(self, stage, epoch=None):
            self.began, self.ended = [], []

        def on_fit_batch_start(self, batch, should_step):
            if hasattr(self, "began"):
                self.began.append(time.monotonic())

        def on_fit_batch_end(self, batch, outputs, loss, should_step):
            if should_step:
                self.hparams.noam(self.optimizer)
            if hasattr(self, "ended"):
                self.ended.append(time.monotonic())

    return Recognizer


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    serve(lambda: SpeechBrain(Path(asked["job"]), asked["way"], Path(asked["folder"])).functions())
