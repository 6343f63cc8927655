"""Reads manifests of many short cuts of few long recordings in seconds: lhotse would build a Recording for each cut."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING

from asr.data.corpora.preparing.folders import damage_as_a_sentence

if TYPE_CHECKING:
    from lhotse import MonoCut


def read_cuts(manifest: Path) -> list[MonoCut]:
    """The cuts of a .jsonl.gz file that `write_manifests` (`folders`) wrote, with its audio paths made absolute.

    Cuts of the same recording share one Recording. Raises UserError for a damaged file.
    """
    from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment

    folder = manifest.parent.resolve()
    recordings: dict[str, Recording] = {}
    cuts = []
    with damage_as_a_sentence(manifest.parent):
        with gzip.open(manifest, "rt", encoding="utf8") as lines:
            for line in lines:
                fields = json.loads(line)
                (supervision,) = fields["supervisions"]
                about = fields["recording"]
                recording = recordings.get(about["id"])
                if recording is None:
                    (source,) = about["sources"]
                    path = str(folder / source["source"])
                    recording = recordings[about["id"]] = Recording(
                        about["id"],
                        [AudioSource("file", [0], path)],
                        sampling_rate=about["sampling_rate"],
                        num_samples=about["num_samples"],
                        duration=about["duration"],
                    )
                cuts.append(
                    MonoCut(
                        fields["id"],
                        fields["start"],
                        fields["duration"],
                        channel=0,
                        supervisions=[SupervisionSegment(**supervision)],
                        recording=recording,
                    )
                )
    return cuts
