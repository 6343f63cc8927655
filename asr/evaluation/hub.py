"""Pushes model folders to a Hugging Face hub and pulls them from it, with a sentence for every failure.

HF_ENDPOINT chooses the hub; huggingface_hub finds the token itself (HF_TOKEN, or `hf auth login`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asr.errors import UserError
from asr.evaluation.card.card import front_matter, license_of, own_lines, renewed, with_license
from asr.evaluation.card.facts import SCORES, read_facts, read_json, read_scores, without_paths
from asr.evaluation.evaluate import model_folder_of, output_folder
from asr.model.checkpoint import Checkpoint, open_checkpoint
from asr.model.folder import CARD, DESCRIPTION, WEIGHTS, load_model
from asr.runtime.files import write_whole
from asr.text.units import UNITS_FILE

# everything that a model folder may hold: weights, JSON, text, and sentencepiece's model, which is data too
FILES = (WEIGHTS, DESCRIPTION, UNITS_FILE, "lexicon.txt", "bpe.model", CARD)
EVALUATION = re.compile(rf"evaluation/[^/]+/[^/]+/{re.escape(SCORES)}")
# files of every repository on the hub that no model folder needs
OF_HUB = (".gitattributes", ".gitignore")
# HTTP clients that versions of huggingface_hub use
CLIENTS = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")


def belongs(name: str) -> bool:
    """Whether a file belongs to a model folder. name: its path in the repository."""
    return name in FILES or EVALUATION.fullmatch(name) is not None and ".." not in name.split("/")


@dataclasses.dataclass
class Push:
    """Options of a push. private: for a new repository. update: allows the repository to exist. replace_card: allows the loss of
    lines that somebody wrote into its card on the hub. license: written into the folder's own card first.
    """

    private: bool = False
    update: bool = False
    replace_card: bool = False
    license: str | None = None


def push(source: str, repo: str, how: Push) -> tuple[str, list[str]]:
    """Pushes the model folder of a run to the hub in one commit; returns (its URL, remarks for the user).

    If the push fails, a repository created for it is deleted. Raises UserError.
    """
    checkpoint = open_checkpoint(source)
    folder = model_folder_of(checkpoint)
    if folder is None or not folder.is_dir():
        raise UserError(
            f"{source} has no model folder: training writes it at its end, into RUN/model. Name a finished run."
        )
    api = hub()
    with tempfile.TemporaryDirectory() as aside, failures_as_sentences(repo):
        staged = Path(aside)
        remarks = stage(folder, checkpoint, staged, how.license)
        made = not (how.update and api.repo_exists(repo))
        if not made and not how.replace_card:
            refuse_lost_lines(api, repo, (staged / CARD).read_text(encoding="utf8"))
        api.create_repo(repo, private=how.private if made else None, exist_ok=how.update)
        try:
            api.upload_folder(repo_id=repo, folder_path=staged, commit_message="asr: model folder")
        except BaseException:
            if made:
                with contextlib.suppress(Exception):
                    api.delete_repo(repo)
            raise
    return f"{api.endpoint}/{repo}", remarks


def refuse_lost_lines(api: Any, repo: str, card: str) -> None:
    """Raises UserError if somebody wrote lines into the card on the hub that `card` lacks."""
    from huggingface_hub.errors import EntryNotFoundError

    with tempfile.TemporaryDirectory() as aside:
        try:
            theirs = Path(api.hf_hub_download(repo, CARD, local_dir=aside)).read_text(encoding="utf8", errors="replace")
        except EntryNotFoundError:
            return
    lost = [line for line in own_lines(theirs) if line not in own_lines(card)]
    if lost:
        raise UserError(
            f"{CARD} of {repo} has {len(lost)} lines that yours lacks, such as {lost[0][:60]!r}. Copy them into "
            "yours, or push with replace_card=true."
        )


def stage(folder: Path, checkpoint: Checkpoint, staged: Path, license: str | None) -> list[str]:
    """Copies everything that may be published into `staged`; returns remarks for the user."""
    evaluations = output_folder(checkpoint)
    card = folder / CARD
    there = card.read_text(encoding="utf8") if card.is_file() else None
    facts = read_facts(folder, evaluations)
    text, remarks = renewed(there, facts, str(card))
    if license is not None:
        text, remarks = renewed(with_license(text, license), facts, str(card))
    front_matter(text)
    if license is not None:
        write_whole(card, text.encode("utf8"))
    for name in FILES:
        if (folder / name).is_file() and name not in (CARD, DESCRIPTION):
            shutil.copyfile(folder / name, staged / name)
    (staged / CARD).write_text(text, encoding="utf8")
    description = read_json(folder / DESCRIPTION)
    clean = {**description, "trained_on": without_paths(description.get("trained_on", {}))}
    (staged / DESCRIPTION).write_text(json.dumps(clean, indent=2, ensure_ascii=False) + "\n", encoding="utf8")
    for path in sorted(evaluations.glob(f"*/*/{SCORES}")):
        if scores := read_scores(path):
            target = staged / "evaluation" / path.relative_to(evaluations)
            target.parent.mkdir(parents=True)
            target.write_text(json.dumps(scores, indent=2, ensure_ascii=False) + "\n", encoding="utf8")
    if clean != description:
        remarks.append(f"{DESCRIPTION}: paths of this machine were replaced by PATH in the pushed copy.")
    if license_of(text) is None:
        remarks.append("No license is stated, so nobody may use the model: push again with update=true license=NAME.")
    return remarks


def pull(repo: str, folder: Path, revision: str | None = None) -> tuple[str, list[str]]:
    """Downloads a model folder from the hub and checks it; returns (the commit, the names of files left out).

    The folder appears complete, once its model has loaded, or not at all. Raises UserError.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty. Name a new folder for the model.")
    api = hub()
    with failures_as_sentences(repo):
        info = model_info(api, repo, revision)
        names = [file.rfilename for file in info.siblings or ()]
        taken = [name for name in names if belongs(name)]
        for needed in (WEIGHTS, DESCRIPTION, UNITS_FILE):
            if needed not in taken:
                raise UserError(
                    f"{repo} is not a model of asr: it has no {needed}. Its files: "
                    f"{', '.join(names[:10]) or 'none'}. Name another repository."
                )
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for name in taken:
                api.hf_hub_download(repo, name, revision=info.sha, local_dir=aside)
            shutil.rmtree(aside / ".cache", ignore_errors=True)
            try:
                load_model(aside)
            except UserError as error:
                raise UserError(f"{repo} was not kept: {str(error).replace(f'{aside}/', '')}") from None
            aside.chmod(0o755)
            os.replace(aside, folder)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    return info.sha, [name for name in names if name not in taken and name not in OF_HUB]


def model_info(api: Any, repo: str, revision: str | None) -> Any:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return api.model_info(repo, revision=revision)
    except RevisionNotFoundError:
        raise UserError(f"{repo} has no revision {revision!r}: name a branch, a tag or a commit.") from None
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        for kind in ("dataset", "space"):
            if api.repo_exists(repo, repo_type=kind):
                raise UserError(f"{repo} is a {kind}, not a model. Name the repository of a model.") from None
        raise


def hub() -> Any:
    try:
        from huggingface_hub import HfApi
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":
            raise
        raise UserError(
            "huggingface_hub, which talks to the hub, is not installed. Install it: pip install -c constraints.txt -e '.[hub]'"
        ) from None
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)


@contextlib.contextmanager
def failures_as_sentences(repo: str) -> Iterator[None]:
    """Turns errors of the hub and the network into UserErrors."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        yield
    except UserError:
        raise
    except HFValidationError as error:
        raise UserError(
            f"{repo!r} is not the name of a repository ({first_line(error).rstrip('.')}). Write owner/name."
        ) from None
    except OfflineModeIsEnabled:
        raise UserError("HF_HUB_OFFLINE is set, so the hub is not used. Unset it.") from None
    except HfHubHTTPError as error:
        raise UserError(refusal(repo, error)) from None
    except OSError as error:
        raise UserError(
            f"{repo}: {error.filename or 'the transfer'} failed: {(error.strerror or first_line(error)).rstrip('.')}. Check the "
            "disk and the network, then try again."
        ) from None
    except Exception as error:
        # the HTTP clients below huggingface_hub raise their own errors when a connection fails or breaks
        if type(error).__module__.partition(".")[0] not in CLIENTS:
            raise
        raise UserError(
            f"{hub().endpoint} cannot be reached ({type(error).__name__}: {first_line(error)}). "
            "Check the network, and HF_ENDPOINT if you have set it."
        ) from None


def refusal(repo: str, error: Any) -> str:
    status = getattr(error.response, "status_code", None)
    if status == 401:
        return (
            f"{repo}: the hub does not know you (401), or it does not exist. Log in with `hf auth login` or set HF_TOKEN, "
            "and check the name."
        )
    if status == 403:
        return (
            f"{repo}: your token does not allow this (403). Use one that may write to it, or ask its owner for access."
        )
    if status == 404:
        return f"{repo} is not on the hub (404), or it is private and your token may not see it. Check the name and HF_TOKEN."
    if status == 409:
        return f"{repo} exists already. Push a new version into it with update=true, or choose another name."
    return f"{repo}: the hub answered {status}: {first_line(error)} Try again, or see what it says about your account."


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".") + "."
