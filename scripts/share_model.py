"""Shares models on a Hugging Face hub: python scripts/share_model.py push RUN owner/name, or pull owner/name FOLDER

    push RUN owner/name    pushes the model of a finished run, or a model folder, with its card (README.md) and scores
    pull owner/name FOLDER downloads a model into a new folder and checks it: transcribe.py checkpoint=FOLDER

A push includes weights, description, units, card, and the numbers of evaluations, but no checkpoints, no config.yaml and no
data of the corpus. Paths on this machine are replaced by PATH. A pull takes only files that belong to a model folder, all of
which are data; other files are named and left out. HF_ENDPOINT chooses the hub; log in with `hf auth login` or set HF_TOKEN.

    private=false     push: makes a new repository private
    update=false      push: commits a new version if the repository exists
    replace_card=false push: allows the loss of lines that somebody wrote into the card on the hub
    license=          push: the model's license by its name on the Hub, such as apache-2.0; saved in the folder's README.md
    revision=         pull: a branch, a tag or a commit; by default the newest

Needs: pip install -c constraints.txt -e '.[hub]'
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr.cli.command import mistakes_as_sentences  # noqa: E402
from asr.config.overrides import parted  # noqa: E402
from asr.errors import UserError, nearest  # noqa: E402

SETTINGS = {
    "push": {"private": False, "update": False, "replace_card": False, "license": None},
    "pull": {"revision": None},
}
NAMED = {"push": "RUN owner/name", "pull": "owner/name FOLDER"}


def parse_arguments(arguments: list[str]) -> tuple[str, list[str], dict[str, Any]]:
    """(push or pull, the two names, settings) from the command line. Raises UserError."""
    action, *others = arguments
    if action not in SETTINGS:
        raise UserError(f"{action!r} is neither push nor pull: python scripts/share_model.py --help")
    names, settings = [], dict(SETTINGS[action])
    for argument in others:
        key, equals, text = parted(argument)
        if not equals or Path(argument).is_dir():
            names.append(argument)
        elif key not in settings:
            raise UserError(f"{action} has no setting {key!r}: {nearest(key, settings)}.")
        elif isinstance(settings[key], bool):
            if text not in ("true", "false"):
                raise UserError(f"{key} is true or false, not {text!r}.")
            settings[key] = text == "true"
        else:
            settings[key] = text or None
    if len(names) != 2:
        raise UserError(
            f"{action} takes two names, not {len(names)}: python scripts/share_model.py {action} {NAMED[action]}"
        )
    repo = names[1] if action == "push" else names[0]
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise UserError(
            f"{repo!r} is not of the form owner/name: python scripts/share_model.py {action} {NAMED[action]}"
        )
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", settings.get("license") or "none"):
        raise UserError(
            f"license={settings['license']} is not a license identifier: use the Hub's, such as apache-2.0 or cc-by-4.0."
        )
    return action, names, settings


def run(arguments: list[str]) -> None:
    action, names, settings = parse_arguments(arguments)
    from asr.evaluation import hub

    if action == "push":
        url, remarks = hub.push(*names, hub.Push(**settings))
        for remark in remarks:
            print(remark, file=sys.stderr)
        print(f"pushed     {url}\npull it    python scripts/share_model.py pull {names[1]} FOLDER")
        return
    commit, left_out = hub.pull(names[0], Path(names[1]), **settings)
    if left_out:
        print(f"left out, because they do not belong to a model folder: {', '.join(left_out)}", file=sys.stderr)
    print(f"pulled     {names[0]} at {commit}\nuse it     python transcribe.py checkpoint={names[1]} some.wav")


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(__doc__.strip())
        return 0 if arguments else 2
    with mistakes_as_sentences("share_model.py"):
        run(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
