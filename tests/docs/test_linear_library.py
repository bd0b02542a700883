"""The page of the linear library runs as it stands, and names every parameter and attribute of the estimators."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import probekit_linear
import pytest
from probekit_linear import SparseLogisticPath, SubsetLogistic

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "linear-library.md").read_text("utf-8")


def test_its_code_runs_and_finds_what_was_planted(capsys):
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    exec(compile(code, "linear-library.md", "exec"), {})
    first, refit, path, subsets = capsys.readouterr().out.splitlines()
    assert first.endswith("first [3, 17]")
    assert refit.startswith("[3, 17]")
    assert path.startswith("(2, 10, 60) True")
    assert subsets == "(2, 2, 5) (2, 3, 2) True"


def named(text: str) -> set[str]:
    return {name for code in re.findall(r"`([^`\n]+)`", text) for name in re.findall(r"\w+", code)}


@pytest.mark.parametrize("estimator", [SparseLogisticPath(), SubsetLogistic()], ids=lambda e: type(e).__name__)
def test_every_parameter_and_attribute_is_named(estimator):
    (section,) = re.findall(rf"^## `{type(estimator).__name__}`.*?(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    rng = np.random.default_rng(0)
    fitted = estimator.fit(rng.normal(size=(60, 3)), np.arange(60) % 2)
    everywhere = {"classes_", "n_features_in_"}
    attributes = {name for name in vars(fitted) if name.endswith("_")} - everywhere
    assert {*estimator.get_params(deep=False), *attributes} <= named(section)


def test_every_argument_of_the_functions_is_named():
    section = PAGE[PAGE.index("## The functions") :]
    functions = [name for name in probekit_linear.__all__ if name.islower()]
    assert "logistic_path" in functions
    for name in functions:
        function = getattr(probekit_linear, name)
        (signature,) = re.findall(rf"`{name}\((.*?)\)`", section)
        assert list(inspect.signature(function).parameters) == re.findall(
            r"\b[a-z]\w*\b", signature.replace("=None", "")
        )
        result = inspect.signature(function).return_annotation
        assert f"`{result}`: " in section
