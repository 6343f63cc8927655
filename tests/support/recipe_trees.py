"""Look-alike trees of LibriSpeech, TIMIT and Common Voice: their layouts and tables with a fraction of a second of noise."""

import numpy
import soundfile

RATE = 16000
SENTENCES = [
    "A CHAIR STOOD BY THE OPEN WINDOW",
    "NOBODY KNEW WHERE THE ROAD WOULD LEAD",
    "THE RIVER ROSE AND THE BRIDGE WAS CLOSED",
    "SHE COUNTED THE SHIPS IN THE HARBOUR",
    "IT RAINED FOR SEVEN DAYS",
]


def noise(seed, seconds=0.1, rate=RATE):
    """(samples,) int16."""
    generator = numpy.random.default_rng(seed)
    return (generator.standard_normal(int(seconds * rate)) * 3000).astype(numpy.int16)


# LibriSpeech


def write_librispeech(root, parts, per_chapter=4, first_reader=84):
    """parts: how many utterances of each part. One chapter per reader; a CHAPTERS.TXT lists them, as the archives have it.

    Returns the ids of all utterances by part.
    """
    ids, rows, reader = {}, [], first_reader
    sound = root / "noise.flac"
    root.mkdir(parents=True, exist_ok=True)
    soundfile.write(sound, noise(1), RATE)
    content = sound.read_bytes()
    sound.unlink()
    for part, count in parts.items():
        ids[part] = []
        while len(ids[part]) < count:
            chapter = reader + 1000
            folder = root / part / str(reader) / str(chapter)
            folder.mkdir(parents=True)
            lines = []
            for number in range(min(per_chapter, count - len(ids[part]))):
                utterance = f"{reader}-{chapter}-{number:04d}"
                (folder / f"{utterance}.flac").write_bytes(content)
                lines.append(f"{utterance} {SENTENCES[number % len(SENTENCES)]} {utterance}\n")
                ids[part].append(utterance)
            (folder / f"{reader}-{chapter}.trans.txt").write_text("".join(lines))
            rows.append(f"{chapter:<6} | {reader:<6} | 0.01  | {part:<16} | 1 | 2 | A Chapter | A Book\n")
            reader += 1
    header = ";ID    |READER|MINUTES| SUBSET           | PROJ.|BOOK ID| CH. TITLE | PROJECT TITLE\n"
    (root / "CHAPTERS.TXT").write_text(header + "".join(rows))
    return ids


# TIMIT

PHONEMES = "h# sh iy hv ae dcl d y er dcl d aa r kcl k s ux q en epi pau axr zh h#".split()


def sphere(samples, rate=RATE):
    """A NIST SPHERE file of 16-bit PCM, low byte first, with TIMIT's fields."""
    fields = [
        "NIST_1A",
        "   1024",
        "database_id -s5 TIMIT",
        "channel_count -i 1",
        f"sample_count -i {len(samples)}",
        f"sample_rate -i {rate}",
        "sample_n_bytes -i 2",
        "sample_byte_format -s2 01",
        "sample_sig_bits -i 16",
        "end_head",
    ]
    return ("\n".join(fields) + "\n").encode().ljust(1024) + samples.astype("<i2").tobytes()


def write_timit(root, speakers, case=str.upper, audio="sphere", seconds=0.15):
    """speakers: those of "TRAIN" and "TEST", such as FCJF0. case: of all names. audio: "sphere", "riff", or "both" side by
    side, the RIFF one called .WAV.wav. Ten sentences each: SA1, SA2, five SX and three SI. Returns the samples by utterance.
    """
    samples_of = {}
    for part, names in speakers.items():
        for at, speaker in enumerate(names):
            folder = root / case(part) / case(f"DR{at % 8 + 1}") / case(speaker)
            folder.mkdir(parents=True)
            sentences = [
                "SA1",
                "SA2",
                *(f"SX{at + 90 * n}" for n in range(5)),
                *(f"SI{at + 630 * n}" for n in range(1, 4)),
            ]
            for number, sentence in enumerate(sentences):
                samples = noise(hash_of(speaker, sentence), seconds)
                samples_of[f"{speaker}-{sentence}"] = samples
                stem = folder / case(sentence)
                if audio in ("sphere", "both"):
                    (folder / case(f"{sentence}.WAV")).write_bytes(sphere(samples))
                if audio == "riff":
                    soundfile.write(folder / case(f"{sentence}.WAV"), samples, RATE, format="WAV")
                if audio == "both":
                    soundfile.write(f"{folder / case(f'{sentence}.WAV')}.wav", samples, RATE, format="WAV")
                write_times(stem, case, SENTENCES[number % len(SENTENCES)], len(samples))
    return samples_of


def hash_of(*words):
    return sum(ord(letter) * (place + 1) for place, letter in enumerate("".join(words)))


def write_times(stem, case, text, samples):
    def write(suffix, lines):
        stem.with_name(stem.name + case(suffix)).write_text("".join(f"{line} \n" for line in lines))

    write(".TXT", [f"0 {samples} {text.capitalize()}."])
    for suffix, names in ((".WRD", text.lower().split()), (".PHN", PHONEMES)):
        ends = numpy.linspace(0, samples, len(names) + 1).astype(int)
        write(suffix, [f"{start} {end} {name}" for start, end, name in zip(ends, ends[1:], names)])


# Common Voice

COLUMNS = "client_id path sentence up_votes down_votes age gender accents variant locale segment".split()


def write_common_voice(root, tables, columns=COLUMNS, rate=32000, durations=True):
    """tables: rows of "train", "dev" and "test", as (client, clip, sentence). Clips are MP3 at `rate` Hz, half a second each."""
    (root / "clips").mkdir(parents=True)
    listed = ["clip\tduration[ms]\n"]
    for split, rows in tables.items():
        lines = ["\t".join(columns) + "\n"]
        for client, clip, sentence in rows:
            soundfile.write(root / "clips" / clip, noise(hash_of(clip), 0.5, rate), rate, format="MP3")
            cells = {"client_id": client, "path": clip, "sentence": sentence, "up_votes": "2", "locale": root.name}
            lines.append("\t".join(cells.get(column, "") for column in columns) + "\n")
            listed.append(f"{clip}\t500\n")
        (root / f"{split}.tsv").write_text("".join(lines), encoding="utf8")
    if durations:
        (root / "clip_durations.tsv").write_text("".join(listed))
