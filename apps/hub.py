"""Checkpoints on the Hugging Face Hub: a repository with model.safetensors, and README.md as its model card."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..atomic_io import atomic_path
from ..errors import UserError
from ..tasks.checkpoint import load_checkpoint, read_header
from .predict import license_notes

FILE, CARD = "model.safetensors", "README.md"
PIPELINES = {
    "classification": "image-classification",
    "colorization": "image-to-image",
    "depth": "depth-estimation",
    "hand_pose": "keypoint-detection",
    "pose": "keypoint-detection",
    "restoration": "image-to-image",
    "translation": "image-to-image",
}
"""The Hub's name of a task, by which its site lists models; it has none of the others."""


def push(checkpoint: Path, repo: str, *, private: bool = False) -> str:
    """Upload a checkpoint and its model card in one commit; the repository is created if there is none.

    Args:
        checkpoint: the file. A model card beside it, of the same name with the ending .md, is used as text.
        repo: "USER/NAME"; the account is that of `hf auth login` or HF_TOKEN.
        private: create it as a private one.

    Returns:
        The address of the repository.

    Raises:
        UserError: no checkpoint, or the Hub refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    card = model_card(read_header(checkpoint), repo, checkpoint.with_suffix(".md"))
    files = [CommitOperationAdd(CARD, card.encode()), CommitOperationAdd(FILE, checkpoint)]
    with hub_errors(repo):
        url = HfApi().create_repo(repo, private=private, exist_ok=True)
        HfApi().create_commit(repo, files, commit_message=f"Upload {checkpoint.name}")
    return str(url)


def pull(repo: str, out: Path, *, revision: str | None = None) -> None:
    """Download a checkpoint, and read it completely before it gets its name.

    Args:
        repo: "USER/NAME".
        out: file to write.
        revision: branch, tag or commit; None: the newest.

    Raises:
        UserError: no such repository or file, no connection, or a damaged or foreign file.
    """
    from huggingface_hub import HfApi

    with hub_errors(repo):
        cached = HfApi().hf_hub_download(repo, FILE, revision=revision)
    with atomic_path(out) as aside:
        shutil.copyfile(cached, aside)
        load_checkpoint(aside)


@contextmanager
def hub_errors(repo: str) -> Iterator[None]:
    """One sentence for what the Hub or the connection refuses."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        yield
    except HFValidationError as error:
        raise UserError(f"'{repo}' is not the name of a repository: give USER/NAME.") from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"The Hub has no repository '{repo}', or it is private: log in with `hf auth login`, or correct the name."
        ) from error
    except LocalEntryNotFoundError as error:
        raise UserError(f"The Hub cannot be reached for '{repo}': check the connection, or try later.") from error
    except EntryNotFoundError as error:
        raise UserError(f"'{repo}' has no {FILE} of this revision, so it is no model of densevision.") from error
    except HfHubHTTPError as error:
        raise UserError(f"The Hub refuses '{repo}': {str(error).strip().splitlines()[0]}") from error
    except Exception as error:
        # Of the connection; the client's versions use different libraries for it.
        raise UserError(f"The Hub cannot be reached for '{repo}' ({type(error).__name__}: {error}).") from error


def model_card(header: dict[str, Any], repo: str, written: Path | None = None) -> str:
    """README.md of a repository: metadata for the Hub, how to use the model, and what its header or card says.

    Args:
        header: header of the checkpoint.
        repo: "USER/NAME".
        written: a model card; one that does not exist is generated from the header.
    """
    from ..tasks import task_class

    task, name = task_class(header["task"]), repo.rpartition("/")[2]
    pipeline = [f"pipeline_tag: {PIPELINES[task.name]}"] if task.name in PIPELINES else []
    metadata = ["library_name: densevision", *pipeline, "license: other", "tags:", "- densevision", f"- {task.name}"]
    use = [
        "## Use\n",
        "```bash",
        f"densevision weights pull {repo} {name}.safetensors",
        f"densevision predict {name}.safetensors photo.jpg",
        "```\n",
    ]
    if written is not None and written.is_file():
        text = written.read_text(encoding="utf-8").strip()
    else:
        text = "\n".join([f"# {name}\n", f"{task.title}, with densevision.\n", *_facts(header)])
    return "\n".join(["---", *metadata, "---\n", text, "", *use])


def _facts(header: dict[str, Any]) -> list[str]:
    """Lines about the model, its data and scores, from the header of its checkpoint."""
    model = header["model"] or " + ".join(filter(None, (header["backbone"], header["head"])))
    height, width = header["size"]
    lines = ["## Model\n", f"{model}, trained at {width}x{height} for {header.get('step', 0)} steps.\n"]
    lines += ["## Training data and license\n", f"{header['data']['title']}: {header['data']['terms']}.\n"]
    lines += [f"- {note}" for note in license_notes(header)] + [""]
    if metrics := dict(header.get("metrics") or {}):
        protocol, samples, split = (metrics.pop(key, "") for key in ("protocol", "samples", "split"))
        lines += ["## Metrics\n", f"Protocol {protocol}, {samples} samples of the split {split}.\n"]
        lines += ["| metric | value |", "| --- | --- |"]
        lines += [f"| {name} | {value:.4g} |" for name, value in metrics.items() if value is not None] + [""]
    return lines
