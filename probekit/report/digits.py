"""How numbers are written for readers: the same number of digits down a column."""

from __future__ import annotations

import math


def digits(score: float | None) -> str:
    """A score to three digits, without the nought: ``.192``; none and NaN are a dash."""
    if score is None or math.isnan(score):
        return "-"
    text = f"{score:.3f}"
    return text.removeprefix("0") if score >= 0 else f"-{text[1:].removeprefix('0')}"


def signed(weight: float) -> str:
    """A coefficient with its sign, to two digits: ``+.84``."""
    text = f"{weight:+.2f}"
    return text[0] + text[1:].removeprefix("0")


def signed_score(difference: float) -> str:
    """A difference with its sign, to three digits."""
    return digits(difference) if difference < 0 else f"+{digits(difference)}"


def whole(count: float) -> str:
    """A count, its thousands apart."""
    return f"{round(count):,}"


def chance(p: float) -> str:
    """A p-value or a q-value: three digits, or that it is below them."""
    return "< .001" if p < 0.001 else digits(p)


def index(channel: float) -> str:
    """A channel's number: a name, not a count."""
    return f"{channel:.0f}"
