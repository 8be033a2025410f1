"""Finding a checkpoint: embedded, a directory, a hub id (downloaded when needed) or a random architecture."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from illava_cli.config.places import PACKAGE, shipped
from illava_cli.config.reading import read_yaml
from illava_cli.config.settings import Config
from illava_cli.errors import ModelError, UsageError
from illava_cli.models.repository import is_repository, translate
from illava_cli.text import near_miss

RANDOM = "random:"
EMBEDDED = {name: PACKAGE / "assets" / name for name in ("tiny", "tiny-qwen")}  # within the package
OFFLINE_HINT = "try -m tiny (embedded, no download), or name a local checkpoint"
PATTERNS = ["*.json", "*.jinja", "*.safetensors", "*.txt", "*.model"]


def architecture(name: str) -> dict:
    """The shipped architecture `name`: `family`, `config` and `description`.

    Raises:
        UsageError: there is none; names the near miss.
    """
    files = shipped("architectures")
    if name not in files:
        hint = near_miss(name, list(files))
        raise UsageError(f"unknown architecture random:{name}{hint} (there are: {', '.join(files)})")
    return read_yaml(files[name])


def shipped_folder(name: str) -> Path | None:
    """The directory of a checkpoint within the package; None for any other."""
    return EMBEDDED.get(name)


def local_folder(name: str) -> Path | None:
    """The directory of a checkpoint that is embedded or named by its path; None for a hub id."""
    folder = shipped_folder(name) or Path(name)
    return folder if folder.is_dir() else None


def model_config(config: Config) -> dict:
    """The model's config.json (or architecture), as far as it is known without a download.

    Raises:
        ModelError: a hub id whose config.json is not on this machine.
    """
    name = config.model.id
    if name.startswith(RANDOM):
        spec = architecture(name.removeprefix(RANDOM))
        return {"model_type": spec["family"], **spec["config"]}
    if (folder := local_folder(name)) is not None:
        return read_config(folder)
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, "config.json", revision=config.model.revision)
    if not isinstance(path, str):
        raise ModelError(f"{name} is not on this machine yet: its family is known after the first run")
    return read_config(Path(path).parent)


def read_config(folder: Path) -> dict:
    """A checkpoint's config.json, which names its `model_type`; the LLaVA repository's own is translated."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        config["model_type"]
    except FileNotFoundError:
        raise UsageError(f"{folder} holds no config.json: it is not a checkpoint directory") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(f"{path} cannot be read as a model configuration: download it again") from None
    return translate(config, str(folder)) if is_repository(config) else config


def complete(folder: Path) -> bool:
    """Whether a snapshot has its configuration, tokenizer, processor and all its weights."""
    index = folder / "model.safetensors.index.json"
    needed = [("config.json",), ("tokenizer.json", "vocab.json", "tokenizer.model")]
    try:
        repository = is_repository(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        repository = False
    if not repository:  # whose processor is in its code
        needed.append(("preprocessor_config.json", "processor_config.json"))
    if not all(any((folder / name).exists() for name in names) for names in needed):
        return False
    if index.exists():
        shards = set(json.loads(index.read_text())["weight_map"].values())
        return all((folder / shard).exists() for shard in shards)
    return (folder / "model.safetensors").exists()


def checkpoint_folder(
    name: str, revision: str | None, note: Callable[[str], None], *, hint: str = OFFLINE_HINT
) -> Path:
    """The local folder of a checkpoint; a download is announced with its size.

    Args:
        hint: what to do where it cannot be downloaded.

    Raises:
        ModelError: offline, or the download failed.
        UsageError: no such checkpoint on the hub.
    """
    if (folder := local_folder(name)) is not None:
        return folder
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = Path(
            snapshot_download(name, revision=revision, allow_patterns=PATTERNS, local_files_only=True)
        )
        if complete(folder):
            return folder
    except LocalEntryNotFoundError:
        pass
    try:
        files = HfApi().model_info(name, revision=revision, files_metadata=True).siblings or []
        wanted = [f for f in files if f.rfilename.endswith(tuple(p[1:] for p in PATTERNS))]
        size = sum(f.size or 0 for f in wanted)
        note(f"downloading {name} ({size / 1e9:.1f} GB) to {cache_folder()}")
        return Path(snapshot_download(name, revision=revision, allow_patterns=PATTERNS))
    except GatedRepoError:
        raise ModelError(f"{name} is gated: accept its terms on the hub and run `hf auth login`") from None
    except RevisionNotFoundError:
        raise UsageError(f"{name} has no revision {revision!r} on the hub") from None
    except RepositoryNotFoundError:
        raise UsageError(f"no model {name!r} on the hub (or it is private: run `hf auth login`)") from None
    except (HfHubHTTPError, OSError, RuntimeError) as error:
        reason = "offline mode is set" if os.environ.get("HF_HUB_OFFLINE") else first_line(error)
        raise ModelError(f"cannot download {name} ({reason}): {hint}") from None
    except Exception as error:
        # the hub client's HTTP library has errors of its own, which share no base with ours
        if type(error).__module__.partition(".")[0] in (
            "httpx",
            "httpx2",
            "httpcore",
            "httpcore2",
            "requests",
        ):
            raise ModelError(f"cannot download {name} (no connection to the hub): {hint}") from None
        raise


def cache_folder() -> str:
    """Where the hub client keeps its downloads."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return HF_HUB_CACHE


def first_line(error: Exception, limit: int = 120) -> str:
    """What an exception says, in one line; its name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:limit]
