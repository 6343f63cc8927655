"""Our side of scripts/benchmark_training.py, run as a separate process."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
import platform
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]

from contestant import drained, serve, timed  # noqa: E402

from asr.errors import UserError  # noqa: E402

# utterances of dev scored at the end of a loop, untimed
DEV_UTTERANCES = 8


class Ours:
    """Features, model, loss, optimizer and the whole training of `conf/train.yaml` with `overrides`.

    folder: for the runs, and for the job that SpeechBrain's side reads. batches: of the training plan, for the loop.
    stage_batches: how many of them, in memory, to time the single stages on. warm_up: batches before the loop's clock starts.
    """

    def __init__(
        self, overrides: list[str], folder: Path, batches: int, stage_batches: int, warm_up: int, threads: int
    ):
        import torch

        from asr.config.settings import compose, plain
        from asr.data.batches import Utterances, collate
        from asr.data.corpora import corpora
        from asr.model.network import Model
        from asr.runtime.devices import device_of
        from asr.runtime.precision import precision_of
        from asr.training import setup as training
        from asr.training.starting import choose_units
        from asr.training.trainer import data_workers

        torch.set_num_threads(threads)
        self.folder, self.threads, self.warm_up, self.runs = folder, threads, warm_up, 0
        # a row of metrics at the start and end of the timed part, a checkpoint in its middle
        self.config = config = compose(
            "train",
            [
                *overrides, f"trainer.log_every_n_steps={warm_up}", f"checkpoint_steps={(batches + warm_up) // 2}",
                "trainer.validations=1", "trainer.rehearse=false", "trainer.accumulate_grad_batches=1", "max_epochs=1",
            ],
        )  # fmt: skip
        config.data.workers = data_workers(config)
        torch.set_float32_matmul_precision(config.trainer.matmul_precision)
        torch.manual_seed(config.seed)
        loading = corpora.create(plain(config.corpus))
        corpus = loading.load(Path(config.cache), workers=threads)
        self.description = training.describe(config)
        self.description["features"]["sample_rate"] = corpus.sample_rate
        self.units, _ = choose_units(config, corpus, None)
        self.description["units"] = len(self.units.symbols)
        self.device = device_of(config.trainer.accelerator)
        self.precision = precision_of(config.trainer.precision, config.trainer.accelerator).name
        self.model = Model(self.description).to(self.device).train()
        splits = training.check_splits(corpus, self.units, self.model, config.data.max_dropped)
        training.gather_statistics(self.model, splits["train"], config.data.evaluation_frames)
        dev = splits["dev"]
        kept = {name: getattr(dev, name)[:DEV_UTTERANCES] for name in ("cuts", "labels", "references", "frames")}
        self.splits = {**splits, "dev": dataclasses.replace(dev, **kept)}
        self.plan = first_batches(config, splits["train"], batches)
        train, self.fresh = splits["train"], copy.deepcopy(self.model).cpu()
        self.utterances = Utterances(train.cuts, train.labels)
        self.audio = [sum(train.cuts[index].num_samples for index in batch) for batch in self.plan.epoch(0)]
        self.audio = [samples / corpus.sample_rate for samples in self.audio]
        if len(self.audio) <= warm_up:
            raise UserError(
                f"{config.corpus.name} has only {len(self.audio)} batches of data.batch_frames={config.data.batch_frames}, and "
                f"more than --warm-up {warm_up} are needed: lower one of the two."
            )
        self.stage_batches = [
            collate([self.utterances[index] for index in batch]) for batch in self.plan.epoch(0)[:stage_batches]
        ]
        self.stage_seconds = sum(self.audio[: len(self.stage_batches)])
        self.optimizer = make_optimizer(config, self.model)

    def functions(self) -> dict[str, Any]:
        return {
            "describe": self.describe,
            "filter bank": self.filter_banks,
            "data loading": self.data_loading,
            "forward": lambda: self.stage(self.forward),
            "forward + backward": lambda: self.stage(self.forward_backward),
            "step": lambda: self.stage(self.step),
            "loop": self.loop,
        }

    def describe(self) -> dict[str, Any]:
        import lightning
        import torch

        from asr.model.attention.crossover import processor_name
        from asr.runtime.provenance import git_revision

        return {
            "label": f"asr, {self.model.attention_label()}",
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "machine": f"{processor_name(self.device)}, {self.device.type}, {self.threads} threads; torch {torch.__version__}, "
            f"lightning {lightning.__version__}, Python {platform.python_version()}; {self.precision}",
            "revision": git_revision(),
            "data": f"{len(self.audio)} batches of {self.config.corpus.name} (data.batch_frames="
            f"{self.config.data.batch_frames}), {sum(self.audio) / 60:.1f} minutes of speech, "
            f"{self.config.data.workers} processes reading it",
            "job": str(self.write_job()),
        }

    def write_job(self) -> Path:
        """Writes what SpeechBrain needs for the same training, as plain data: utterances, labels, batches and sizes."""
        from asr.config.settings import plain

        train = self.splits["train"]
        features, encoder = self.description["features"], self.description["encoder"]
        job = {
            "utterances": [audio_of(cut) | {"labels": labels} for cut, labels in zip(train.cuts, train.labels)],
            "batches": list(self.plan.epoch(0)),
            "batch_seconds": self.config.data.batch_frames * features["hop_seconds"],
            "workers": self.config.data.workers,
            "features": features,
            "encoder": encoder,
            "units": self.description["units"],
            "optimizer": plain(self.config.optimizer),
            "clip": self.config.trainer.gradient_clip_val,
            "precision": self.precision,
            "matmul_precision": self.config.trainer.matmul_precision,
            "device": self.device.type,
            "stage_batches": len(self.stage_batches),
            "warm_up": self.warm_up,
            "checkpoint_steps": self.config.checkpoint_steps,
            "threads": self.threads,
        }
        path = self.folder / "job.json"
        path.write_text(json.dumps(job), encoding="utf8")
        return path

    def filter_banks(self) -> dict[str, Any]:
        """Seconds of all filter banks that are installed here, one after another."""
        from benchmark_features import contestants

        taken = {}
        for batch in self.stage_batches:
            features = self.model.features
            for name, function in contestants(
                batch.waveforms, features.sample_rate, features.mels, self.threads, batch.samples
            ).items():
                taken[name] = taken.get(name, 0.0) + timed(lambda _, run=function: run(), [None], self.synchronize)
        return {"audio": self.stage_seconds, "seconds": taken}

    def data_loading(self) -> dict[str, Any]:
        """The loader alone, once its processes have started."""
        return drained(self.plan.loader(self.utterances, self.config.data.workers), self.audio)

    def stage(self, function) -> dict[str, Any]:
        batches = [
            type(batch)(*(None if part is None else part.to(self.device) for part in batch))
            for batch in self.stage_batches
        ]
        return {"audio": self.stage_seconds, "seconds": timed(function, batches, self.synchronize)}

    def synchronize(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def forward(self, batch):
        import torch

        kinds = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
        with torch.autocast(self.device.type, kinds.get(self.precision), enabled=self.precision in kinds):
            losses = self.model.training_losses(
                batch.waveforms, batch.samples, batch.labels, batch.label_lengths
            ).losses
        return losses.sum() / batch.label_lengths.sum()

    def forward_backward(self, batch) -> None:
        self.forward(batch).backward()
        self.optimizer.zero_grad(set_to_none=True)

    def step(self, batch) -> None:
        import torch

        self.forward(batch).backward()
        if self.config.trainer.gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.trainer.gradient_clip_val)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def loop(self) -> dict[str, Any]:
        """A whole training, as `train.py` runs it, timed by its metrics.csv from step `warm_up` on."""
        from rich.console import Console

        from asr.config.settings import plain
        from asr.inference.decoders import decoders
        from asr.scoring.metric import choose_metric
        from asr.training.fitting import fit
        from asr.training.setup import TrainingSetup
        from asr.training.trainer import make_loggers
        from asr.training.validation import Scoring

        self.runs += 1
        run = self.folder / f"run{self.runs}"
        config = self.config.copy()
        config.run = str(run)
        run.mkdir()
        metric = choose_metric(config.metric, self.units.metric, self.splits["dev"].references)
        fit(
            config,
            run,
            TrainingSetup(
                copy.deepcopy(self.fresh), Scoring(self.units, decoders.create(plain(config.decoder)), metric), self.splits,
                self.plan,
            ),
            make_loggers(config, run, None),
            Console(quiet=True),
        )  # fmt: skip
        with open(run / "metrics.csv", encoding="utf8", newline="") as file:
            return between(list(csv.DictReader(file)), self.audio)


def first_batches(config, split, number: int):
    """The training plan's first epoch, cut after `number` batches."""
    from asr.data.batches import TrainingPlan
    from asr.data.plan import Bounds

    class First(TrainingPlan):
        @property
        def per_epoch(self) -> int:
            return min(number, super().per_epoch)

        def epoch(self, epoch: int):
            return super().epoch(epoch)[: self.per_epoch]

    return First(split.frames, Bounds(config.data.batch_frames, config.data.batch_utterances), config.seed)


def make_optimizer(config, model):
    import hydra

    return hydra.utils.instantiate(config.optimizer, params=list(model.parameters()))


def audio_of(cut) -> dict[str, Any]:
    """The file and samples of a cut. Raises UserError for a cut that is not one stretch of a file."""
    from lhotse import MonoCut

    if not isinstance(cut, MonoCut) or cut.recording.transforms or len(cut.recording.sources) != 1:
        raise UserError(
            f"The utterance {cut.id} is not one stretch of one file, which SpeechBrain's side cannot read: use another "
            "corpus=..."
        )
    start = round(cut.start * cut.sampling_rate)
    return {
        "id": cut.id, "file": cut.recording.sources[0].source, "start": start, "stop": start + cut.num_samples,
        "seconds": cut.num_samples / cut.sampling_rate,
    }  # fmt: skip


def between(rows: list[dict[str, str]], audio: list[float]) -> dict[str, Any]:
    """Speech and seconds between the first and the last logged step of a training, and the share of time spent waiting for data.

    rows: of metrics.csv. audio: seconds of speech in each batch.
    """
    logged = [row for row in rows if row["train/loss"]]
    first, last = logged[0], logged[-1]
    start, end = float(first["seconds"]), float(last["seconds"])
    waited = float(last["train/waiting"]) * end - float(first["train/waiting"]) * start
    return {
        "audio": sum(audio[int(first["step"]) : int(last["step"])]),
        "seconds": end - start,
        "waiting": max(0.0, waited) / (end - start),
    }


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    serve(lambda: Ours(**{**asked, "folder": Path(asked["folder"])}).functions())
