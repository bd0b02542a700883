"""What a spec may write under ``with`` for the linear probe families."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from probekit.api import Parameters

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(ge=1)]


def _distinct(name: str, values: tuple[object, ...]) -> None:
    if len(set(values)) != len(values):
        raise ValueError(f"{name} lists a value twice; give each once")


class LambdaGrid(Parameters):
    """``points`` lambdas, evenly spaced in the logarithm, as shares of each problem's own lambda_max.

    lambda_max is the smallest lambda at which every coefficient is zero. The grid starts one step below it (at
    ``min ** (1 / points)``), so that its first point has a channel, and ends at ``min``.
    """

    points: PositiveInt = 40
    min: Annotated[float, Field(gt=0, lt=1)] = 1e-3

    def ratios(self) -> tuple[float, ...]:
        """The shares, descending."""
        return tuple(float(self.min ** (i / self.points)) for i in range(1, self.points + 1))


class L1PathParameters(Parameters):
    """``l1-path``: the grid, as shares of lambda_max or as the published recipe's C (``lambda = 1 / (C n)``)."""

    lambda_ratio: LambdaGrid = LambdaGrid()
    C: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] | None = None
    target_gap: PositiveFloat = 1e-6

    @model_validator(mode="after")
    def _one_grid(self) -> L1PathParameters:
        if self.C is not None:
            if "lambda_ratio" in self.model_fields_set:
                raise ValueError("lambda_ratio and C both give the grid; keep one of them")
            _distinct("C", self.C)
        return self

    @property
    def points(self) -> int:
        """How many lambdas."""
        return self.lambda_ratio.points if self.C is None else len(self.C)


class L2SubsetsParameters(Parameters):
    """``l2-subsets``: which ranking, at which k, with which ridges.

    The full probe (all channels) is always fitted: every share of a score is a share of its score.
    """

    rank_by: str
    k: tuple[PositiveInt | Literal["all"], ...] = (5, 10, 20, 50, 100, "all")
    widths: Annotated[int, Field(ge=0)] = 40
    ridges: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (1.0, 0.1, 0.01, 1e-3, 1e-4)
    target_gap: PositiveFloat = 1e-6

    @model_validator(mode="after")
    def _each_once(self) -> L2SubsetsParameters:
        _distinct("k", self.k)
        _distinct("ridges", self.ridges)
        return self


class PolynomialParameters(Parameters):
    """``polynomial``: the top ``k`` channels of a ranking (all of them where a layer has fewer) and their products."""

    rank_by: str
    k: Annotated[int, Field(ge=1, le=64)] = 10
    squares: bool = False
    ridges: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (1.0, 0.1, 0.01, 1e-3, 1e-4)
    target_gap: PositiveFloat = 1e-6

    @model_validator(mode="after")
    def _each_once(self) -> PolynomialParameters:
        _distinct("ridges", self.ridges)
        return self


class McpPathParameters(Parameters):
    """``mcp-path``: the grid of ``l1-path``, and where the penalty levels off (``gamma`` lambdas from zero)."""

    lambda_ratio: LambdaGrid = LambdaGrid()
    gamma: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 3.0
    steps: PositiveInt = 10
    target_gap: PositiveFloat = 1e-6


class ForwardSelectionParameters(Parameters):
    """``forward-selection``: up to ``k`` channels (all of them where a layer has fewer), one at a time."""

    k: PositiveInt = 20
    ridge: PositiveFloat = 1e-4
    target_gap: PositiveFloat = 1e-6
