"""timm's own download of pretrained weights: which file it is, so that its digest can be recorded."""

from __future__ import annotations

from pathlib import Path

import timm
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from timm.models import PretrainedCfg
from timm.models._hub import download_cached_file

from probekit.api import ParameterError

_FILES = {
    "pytorch_model.bin": ("model.safetensors", "pytorch_model.bin"),
    "open_clip_pytorch_model.bin": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
}
"""The file that a configuration names -> those that timm tries, in its order."""


def pretrained_config(model: str) -> PretrainedCfg:
    """What timm knows of a model's pretrained weights: input size, mean, std, interpolation, where they are."""
    config = timm.get_pretrained_cfg(model, allow_unregistered=True)
    assert config is not None
    return config


def pretrained_file(model: str) -> tuple[Path, str]:
    """The local copy of a model's pretrained weights, downloaded where it is not there yet, and its published name.

    Raises:
        ParameterError: at ``weights``: timm publishes none, or it cannot be had.
    """
    config = pretrained_config(model)
    try:
        if config.hf_hub_id:
            repository, _, revision = str(config.hf_hub_id).partition("@")
            named = config.hf_hub_filename or "pytorch_model.bin"
            *first, last = _FILES.get(named, (named,))
            for name in first:
                try:
                    return Path(hf_hub_download(repository, name, revision=revision or None)), f"{repository}/{name}"
                except EntryNotFoundError:
                    continue
            return Path(hf_hub_download(repository, last, revision=revision or None)), f"{repository}/{last}"
        if config.url:
            return Path(download_cached_file(config.url)), str(config.url)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        what = f"the weights of {model} cannot be downloaded ({reason}): give a local file, bundled or random"
        raise ParameterError(("weights",), what) from error
    raise ParameterError(("weights",), f"timm publishes no weights for {model}: give a local file, or random")
