"""Hub: an export published on the Hugging Face hub, with the card that the hub reads.

Only the files of the export travel: those that ``check_tree`` lists, numbers and text. What an older export left in the
repository is removed by the same commit, so that a revision is one export and nothing else.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unisono.errors import CheckpointError
from unisono.export.about import About
from unisono.export.layout import CARD, INFO
from unisono.export.licence import spdx
from unisono.export.names import HUB_ID, shown
from unisono.plain_yaml import write_yaml

OWN = {".gitattributes", CARD, "LICENSE"}
"""Files that a repository may have before an export is pushed there."""


@dataclass(frozen=True)
class Pushed:
    """What a push made: the repository, and the commit that ``unisono.load("owner/name@commit")`` takes."""

    repository: str
    commit: str
    url: str


def push(
    export: str | Path, repository: str, *, private: bool = False, tag: str | None = None, message: str | None = None
) -> Pushed:
    """Publish an export as ``owner/name``, which is made where it is not there; an unchanged one makes no new commit.

    Args:
        export: a folder, a model's name or a hub id.
        private: make the repository private, where it is made.
        tag: a name for the commit.
        message: of the commit.

    Raises ``CheckpointError`` where the export is not whole, the repository holds something else, or the hub refuses.
    """
    found = HUB_ID.fullmatch(repository)
    if found is None or found["revision"] or ".." in repository:
        raise CheckpointError(
            f"{shown(repository)} is no hub id to push to, which is owner/name: check the spelling",
            code="format",
            path="repository",
            value=repository,
        )
    about = About.read(export)
    card = hub_card(about, repository.rpartition("/")[2]).encode("utf-8", "backslashreplace")
    import huggingface_hub

    api = huggingface_hub.HfApi(library_name="unisono")
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        there = set(api.list_repo_files(repository))
        if INFO not in there and not there <= OWN:
            raise CheckpointError(
                f"{repository} holds {min(there - OWN)!r:.80} and no {INFO}: it is something else than an export; "
                "choose another name",
                code="exists",
                path=repository,
                value=sorted(there - OWN),
            )
        files = {file.as_posix(): str(about.source.folder / file) for file in about.files if file.name[:1] != "."}
        content: dict[str, Any] = {**files, CARD: card}
        add = [huggingface_hub.CommitOperationAdd(name, content[name]) for name in sorted(content)]
        old = sorted(there - content.keys() - {".gitattributes"})
        remove = [huggingface_hub.CommitOperationDelete(name) for name in old]
        told = message or f"Push {about.stated('title') or about.model}"
        made = api.create_commit(repository, [*add, *remove], commit_message=told)
        if tag is not None:
            api.create_tag(repository, tag=tag, revision=made.oid)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{repository} cannot be pushed to: {_why_not_pushed(error)}", code="failed", path=repository
        ) from error
    return Pushed(repository, made.oid, str(made.commit_url))


def hub_card(about: About, name: str) -> str:
    """Return an export's card with the hub's front matter; one that it had before is replaced."""
    path = about.source.folder / CARD
    text = path.read_bytes().decode("utf-8", "backslashreplace") if Path(CARD) in about.files else ""
    return f"---\n{write_yaml(front_matter(about, name))}---\n{without_front_matter(text)}"


def without_front_matter(card: str) -> str:
    """Return a card as an export has it: what stands between lines of dashes at its top goes."""
    return re.sub(r"\A---\r?\n.*?^---\r?\n", "", card, count=1, flags=re.DOTALL | re.MULTILINE)


def front_matter(about: About, name: str) -> dict[str, Any]:
    """Return what the hub reads of a card: licence, tags, task, and figures as its ``model-index``."""
    stated = about.stated("licence")
    known = spdx(stated)
    if known:
        licence = {"license": known.lower()}
    elif stated:
        licence = {"license": "other", "license_name": "-".join(re.findall(r"[\w.]+", stated.lower()))}
        licence |= {"license_link": "LICENSE"} if Path("LICENSE") in about.files else {}
    else:
        licence = {"license": "unknown"}
    task = about.kind.pipeline_tag
    index = {
        "name": name,
        "results": [
            {
                "task": {"type": task or "other"},
                "dataset": {"type": "other", "name": about.stated("data") or "not stated"},
                "metrics": [{"type": key, "name": key, "value": value} for key, value in about.figures.items()],
            }
        ],
    }
    return {
        **licence,
        "library_name": "unisono",
        "tags": ["unisono", *dict.fromkeys(about.model.split("/"))],
        **({"pipeline_tag": task} if task else {}),
        **({"model-index": [index]} if about.figures else {}),
    }


def _why_not_pushed(error: Exception) -> str:
    """What went wrong, and what to do, in words; the kinds are those of ``huggingface_hub``."""
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; unset it"
    if isinstance(error, errors.HFValidationError):
        return "the hub has no such names; check the spelling"
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if status == 401:
        return "the hub does not know who asks; run hf auth login, or set HF_TOKEN"
    if status == 403:
        return "the account may not write there; take a token with the right to write, or another owner"
    if status is not None:
        return f"the hub answered {status} ({' '.join(str(error).split()):.160}); try again later"
    cause = error.__cause__ or error  # such as a connection that broke, of an upload that failed
    return f"{type(cause).__name__} ({' '.join(str(cause).split()):.160}); check the connection"
