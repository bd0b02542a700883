"""What a spec may write under ``with`` for the shallow MLP."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from probekit.api import Parameters

PositiveInt = Annotated[int, Field(ge=1)]


class MlpParameters(Parameters):
    """``mlp``: widths of the one or two hidden layers, and how they are trained (AdamW, mini-batches).

    ``epochs`` is the most that training may take; it ends once ``patience`` epochs brought no better validation AP.
    """

    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=2)] = (32,)
    epochs: PositiveInt = 50
    patience: PositiveInt = 5
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-2
    batch_size: PositiveInt = 512
