"""segment-anything's networks at any width and depth, and the files that fill them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from probekit.api.checkpoints import check_keys, read_state_dict, seeded
from probekit_sam.parameters import PATCH, SamParameters

NECK = 256
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
_PREFIX = "image_encoder."
_OTHERS = ("prompt_encoder.", "mask_decoder.", "pixel_mean", "pixel_std")


def encoder(parameters: SamParameters, depth: int) -> torch.nn.Module:
    """An image encoder of the first ``depth`` blocks, initialised as segment-anything does; input to the neck too."""
    sizes = parameters.sizes
    network: torch.nn.Module = ImageEncoderViT(
        img_size=parameters.image_size,
        patch_size=PATCH,
        embed_dim=sizes.embed_dim,
        depth=depth,
        num_heads=sizes.num_heads,
        out_chans=NECK,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=sizes.global_attn_indexes,
    )
    return network


def load_encoder(
    parameters: SamParameters, path: Path | None, seed: int, depth: int, *, neck: bool, dry: bool = False
) -> torch.nn.Module:
    """The encoder's first ``depth`` blocks (and, if asked for, its neck) with their weights, float32, on the CPU.

    Args:
        path: the file; none: random weights, drawn from ``seed``. They do not depend on ``depth``.
        neck: whether the neck will run, so that its weights must be there.
        dry: only check that the file fits.

    Raises:
        ParameterError: at ``weights``: the file cannot be read or does not fit.
    """
    if path is None:
        with seeded(seed):
            return encoder(parameters, depth).eval().requires_grad_(False)
    with torch.device("meta"):
        network, whole = encoder(parameters, depth), encoder(parameters, parameters.sizes.depth)
    state = _encoder_keys(read_state_dict(path))
    wanted = {key: value for key, value in network.state_dict().items() if neck or not key.startswith("neck.")}
    check_keys(wanted, state, name=path.name, known=whole.state_dict())
    if not dry:
        network.to_empty(device="cpu")
        network.load_state_dict({key: state[key] for key in wanted}, strict=False)
    return network.eval().requires_grad_(False)


def _encoder_keys(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The encoder's tensors of a whole model's or an encoder's state dict; keys that belong to neither stay, to be
    listed as unexpected."""
    state = {key: value for key, value in state.items() if not key.startswith(_OTHERS)}
    return {key.removeprefix(_PREFIX): value for key, value in state.items()}


def load_sam(parameters: SamParameters, path: Path | None, seed: int) -> Sam:
    """The whole model (encoder, prompt encoder, mask decoder) with its weights, float32, on the CPU.

    Raises:
        ParameterError: at ``weights``: the file cannot be read or does not fit.
    """
    cells = parameters.image_size // PATCH
    with seeded(seed):
        model = Sam(
            image_encoder=encoder(parameters, parameters.sizes.depth),
            prompt_encoder=PromptEncoder(
                embed_dim=NECK,
                image_embedding_size=(cells, cells),
                input_image_size=(parameters.image_size, parameters.image_size),
                mask_in_chans=16,
            ),
            mask_decoder=MaskDecoder(
                transformer_dim=NECK,
                transformer=TwoWayTransformer(depth=2, embedding_dim=NECK, num_heads=8, mlp_dim=2048),
            ),
            pixel_mean=list(PIXEL_MEAN),
            pixel_std=list(PIXEL_STD),
        )
    if path is not None:
        state = read_state_dict(path)
        check_keys(model.state_dict(), state, name=path.name)
        model.load_state_dict(state)
    return model.eval().requires_grad_(False)
