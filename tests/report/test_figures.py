"""Figures against the tables that they are drawn from, on a small run made up for it, whose names are hostile."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text
from safetensors.numpy import save_file

from probekit.evaluate.scores import average_precision
from probekit.report.figures import DOUBLE, PALETTE, Drawing, drawings, save, svg
from probekit.report.figures.calibration import sizes
from probekit.report.figures.material import Material
from probekit.report.figures.precision_recall import precision_recall, thinned
from probekit.report.figures.style import SMALL, fitted, fitted_apart, log_ticks, spread, styled, text_width
from probekit.runner.run import Run
from probekit.runner.schemas import SCHEMAS

Rows = list[dict[str, Any]]

HOSTILE, RARE = "<img src=x onerror=alert(1)>", "a$b_c$ & 'd'"
ALPHA, BETA = "$\\frac{x}$", "net <b>&amp;"
MODELS = [(ALPHA, "body.1"), (BETA, "<script>")]
CONTROL = ("pixels\x07", "cells")
K = {ALPHA: [1, 4, 16, 64], BETA: [1, 4, 16]}
CELLS = 4000


def _tables() -> tuple[dict[str, Rows], dict[str, Any]]:
    """Tables of two models and a control for two concepts, and margins with labels."""
    rng = np.random.default_rng(0)
    tables: dict[str, Rows] = {name: [] for name in SCHEMAS}
    arrays: dict[str, Any] = {"margins": {}, "labels": {}}
    for concept, prevalence in ((HOSTILE, 0.3), (RARE, 0.02)):
        labels = (rng.random(CELLS) < prevalence).astype(np.int8)
        labels[:100] = 2
        arrays["labels"][concept] = labels
        for place, (backbone, layer) in enumerate([*MODELS, CONTROL]):
            where = {"backbone": backbone, "layer": layer, "concept": concept, "probe": "topk"}
            margins = (rng.normal(size=CELLS) + (2.5 - place) * (labels == 1)).astype(np.float32).round(2)
            margins[150:160] = np.nan
            scored = (labels < 2) & ~np.isnan(margins)
            full = average_precision(margins[scored], labels[scored] == 1)
            for k in K.get(backbone, [24]):
                rung = "full" if k == K.get(backbone, [24])[-1] else str(k)
                point = f"{backbone}|{layer}|{concept}|{rung}"
                value = full * (1 - 1 / (2 * k)) if rung != "full" else full
                tables["points"].append(
                    {
                        **where,
                        "point_id": point,
                        "repeat": 0,
                        "condition": "observed",
                        "rung": rung,
                        "k": k,
                        "n_channels": float(k),
                    }
                )
                bounded = (place, k) != (0, 4)
                tables["results"] += [
                    {
                        "point_id": point,
                        "split": split,
                        "sampling": "natural",
                        "grid": "reference",
                        "metric": metric,
                        "value": of,
                        "lo": of * 0.8 if bounded else None,
                        "hi": min(of * 1.2, 1) if bounded else None,
                    }
                    for split, metric, of in (
                        ("test", "average_precision", value),
                        ("validation", "average_precision", 0.01),
                        ("test", "prevalence", prevalence),
                        ("test", "recall", 0.5),
                        ("test", "precision", 0.25),
                        ("test", "brier", 0.02),
                        ("test", "brier_before", 0.03),
                    )
                ]
            arrays["margins"][f"{backbone}|{layer}|{concept}|full"] = margins
            control = backbone == CONTROL[0]
            tables["models"].append(
                {**where, "control": control, "channels": 64, "score": full, "lo": full * 0.8, "hi": full * 1.1}
            )
            if control:
                continue
            tables["k_tau"].append(
                {
                    **where,
                    "repeat": 0,
                    "condition": "observed",
                    "tau": 0.95,
                    "k": 16,
                    "lo": 4 if place else 1,
                    "hi": 64,
                    "open_below": not place,
                    "open_above": bool(place),
                    "full": full,
                }
            )
            tables["nulls"] += [
                {**where, "null": "random-channels", "rung": str(k), "draws": 5, "value": full / 2 * k / 16}
                for k in (1, 4, 16)
            ]
            for calibrated in (False, True):
                predicted = np.linspace(0.001 if concept == RARE else 0.05, 0.9, 10)
                tables["reliability"] += [
                    {
                        "point_id": f"{backbone}|{layer}|{concept}|full",
                        "calibrated": calibrated,
                        "bin": i,
                        "predicted": p,
                        "observed": 0.0 if i == 0 and not calibrated else p * (0.9 if calibrated else 0.6),
                        "cells": 10 ** (1 + i % 5),
                        "positives": 3,
                    }
                    for i, p in enumerate(predicted)
                ]
            for i in range(3):
                tables["depth"].append(
                    {
                        **where,
                        "layer": layer if i == 1 else f"{layer}.{i}",
                        "control": False,
                        "place": i,
                        "channels": 64,
                        "score": full - 0.05 * abs(i - 1),
                        "lo": full - 0.2,
                        "hi": full,
                        "k95": None if i == 2 else 8 + 8 * i,
                        "validation": full,
                        "chosen": i == 1,
                        "megaflops": 10.0 * (i + 1) * (place + 1),
                        "front_cost": i < 2 and not place,
                        "front_k": None if i == 2 else i == 1,
                    }
                )
                if i != 1:
                    tables["models"].append(
                        {**where, "layer": f"{layer}.{i}", "control": False, "channels": 64, "score": full - 0.05}
                    )
        tables["matches"] += _matches(concept)
    return tables, arrays


def _matches(concept: str) -> Rows:
    """ALPHA selects 45 channels and BETA 5: 10 and 1 match, 11 and 99 (which BETA did not select); 12 is a fan."""
    rows: Rows = []
    pairs = {(0, 10): (1, 0.9), (1, 1): (10, 0.9), (0, 11): (99, -0.5)}
    for side, channels in ((0, range(10, 55)), (1, range(5))):
        (a, layer_a), (b, layer_b) = MODELS[side], MODELS[1 - side]
        for i, channel in enumerate(channels):
            partner, r = pairs.get((side, channel), (0, 0.1))
            kind = (
                "one-to-one"
                if (side, channel) in pairs
                else "one-to-many"
                if (side, channel) == (0, 12)
                else "unmatched"
            )
            rows.append(
                {
                    "backbone_a": a,
                    "layer_a": layer_a,
                    "backbone_b": b,
                    "layer_b": layer_b,
                    "concept": concept,
                    "channel": channel,
                    "coefficient": (-1) ** i * (1 - i / 50),
                    "kind": kind,
                    "partner": partner,
                    "r": r,
                    "rebuilt_by": [0, 2, 77],
                    "r2": 0.5,
                }
            )
    return rows[::-1]


@pytest.fixture(scope="module")
def invented(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Writes the run; keywords replace tables."""

    def write(**replaced: Rows) -> Run:
        folder = tmp_path_factory.mktemp("invented") / "run"
        (folder / "scores").mkdir(parents=True)
        tables, arrays = _tables()
        for name, rows in {**tables, **replaced}.items():
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMAS[name]), folder / f"{name}.parquet")
        cells = {f"label {concept}": labels for concept, labels in arrays["labels"].items()}
        pq.write_table(pa.table(cells), folder / "cells.parquet")
        margins = np.stack(list(arrays["margins"].values()))
        save_file(
            {"margins": margins}, folder / "scores" / "all.safetensors", {"points": json.dumps(list(arrays["margins"]))}
        )
        return Run(folder, {"reported_probe": "topk", "concepts": [HOSTILE, RARE], "repeats": 1})

    return write


@pytest.fixture(scope="module")
def run(invented: Callable[..., Run]) -> Run:
    """The run as it is made up."""
    return invented()


@pytest.fixture(scope="module")
def found(run: Run) -> list[Drawing]:
    """Its figures."""
    return list(drawings(run))


def _one(found: Iterable[Drawing], section: str, concept: str = HOSTILE) -> Drawing:
    (one,) = [d for d in found if (d.section, d.concept) == (section, concept)]
    return one


def _with(drawing: Drawing, gid: str) -> list[Any]:
    return drawing.figure.findobj(lambda artist: artist.get_gid() == gid)


def _texts(drawing: Drawing) -> str:
    return "\n".join(t.get_text() for t in drawing.figure.findobj(Text))


def _result(
    run: Run, backbone: str, rung: str, column: str, concept: str = HOSTILE, metric: str = "average_precision"
) -> float:
    points, results = run.points, run.results
    own = points[(points["backbone"] == backbone) & (points["concept"] == concept) & (points["rung"] == rung)][
        "point_id"
    ].iloc[0]
    wanted = (results["point_id"] == own) & (results["metric"] == metric) & (results["split"] == "test")
    return float(results[wanted][column].iloc[0])


def test_a_page_can_hold_every_figure_as_text(found: list[Drawing]) -> None:
    assert [d.section for d in found] == [
        s for s in ("curves", "depth", "precision-recall", "calibration", "matches") for _ in range(2)
    ]
    assert len({d.name for d in found}) == len(found)
    identifiers: list[str] = []
    for drawing in found:
        assert re.fullmatch("[a-z0-9-]+", drawing.name)
        text = svg(drawing)
        assert text.startswith("<svg")
        assert len(text.encode()) < 60_000
        root = ElementTree.fromstring(text)
        tags = {element.tag.split("}")[1] for element in root.iter()}
        assert tags <= {"svg", "title", "desc", "g", "defs", "path", "use", "text", "clipPath", "rect"}
        own = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
        identifiers += own
        assert {root.get("aria-labelledby")} == {f"{drawing.name}-title {drawing.name}-desc"}
        assert root.get("role") == "img"
        said = {element.tag.split("}")[1]: element.text for element in root if element.tag.endswith(("title", "desc"))}
        assert said == {"title": drawing.title, "desc": drawing.description}
        assert drawing.concept in drawing.title
        assert "width" not in root.attrib
        for element in root.iter():
            for name, value in element.attrib.items():
                assert not name.lower().startswith("on")
                for target in re.findall(r"url\((.*?)\)", value) + ([value] if name.endswith("href") else []):
                    assert target.removeprefix("#") in own
            colours = re.findall(r"(?<!, )#[0-9a-f]{3,6}", element.get("style", ""))
            assert not colours, "a colour that no theme changes"
        assert any(element.text for element in root.iter("{http://www.w3.org/2000/svg}text"))
    assert len(set(identifiers)) == len(identifiers)


def test_names_are_shown_as_they_are(invented: Callable[..., Run]) -> None:
    models = [row for row in _tables()[0]["models"] if row["layer"] in ("body.1", "<script>", "cells")]
    found = list(drawings(invented(models=models, depth=[])))
    for section in ("curves", "precision-recall", "calibration", "matches"):
        text = "".join(ElementTree.fromstring(svg(_one(found, section))).itertext())
        assert ALPHA in text
        assert BETA in text
        assert "\x07" not in text
    assert "pixels" in _texts(_one(found, "curves"))
    assert "<script>" in _texts(_one(found, "matches"))


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_files_are_the_same_every_time(invented: Callable[..., Run], tmp_path: Path, kind: Any) -> None:
    run = invented(depth=[])
    first, second = (save(drawings(run, width), tmp_path / str(i), kind) for i, width in enumerate((DOUBLE, DOUBLE)))
    assert [path.name for path in first] == [path.name for path in second]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    if kind == "svg":
        root = ElementTree.fromstring(first[0].read_text())
        assert "var(" not in first[0].read_text()
        assert float(root.get("viewBox", "").split()[2]) == pytest.approx(DOUBLE / 25.4 * 72, abs=0.01)


def test_text_for_a_page_is_the_same_every_time(run: Run, found: list[Drawing]) -> None:
    assert [svg(d) for d in drawings(run)] == [svg(d) for d in found]


def test_curves_are_the_results(run: Run, found: list[Drawing]) -> None:
    drawing = _one(found, "curves")
    lines, bands = _with(drawing, "curve"), _with(drawing, "band")
    for line, backbone in zip(lines, (ALPHA, BETA), strict=True):
        rungs = [str(k) for k in K[backbone][:-1]] + ["full"]
        assert list(line.get_xdata()) == K[backbone]
        assert list(line.get_ydata()) == [_result(run, backbone, rung, "value") for rung in rungs]
    corners = np.concatenate([path.vertices for path in bands[1].get_paths()])
    for rung, k in zip(["1", "4", "full"], K[BETA], strict=True):
        for end in ("lo", "hi"):
            assert [k, _result(run, BETA, rung, end)] in corners.tolist()
    assert 4 not in np.concatenate([path.vertices for path in bands[0].get_paths()])[:, 0], "no interval, no band"
    nulls = run.nulls[run.nulls["concept"] == HOSTILE]
    for marks, backbone in zip(_with(drawing, "random"), (ALPHA, BETA), strict=True):
        own = nulls[nulls["backbone"] == backbone]
        assert list(marks.get_ydata()) == own["value"].tolist()
        assert list(marks.get_xdata()) == own["rung"].astype(float).tolist()
    (control,) = _with(drawing, "control")
    models = run.models[(run.models["concept"] == HOSTILE) & run.models["control"]]
    assert set(control.get_ydata()) == {models["score"].iloc[0]}
    assert {mark.get_xdata()[0] for mark in _with(drawing, "k")} == {16}
    assert sorted(mark.get_marker() for mark in _with(drawing, "open")) == ["<", ">"]
    assert "16 [<1, 64]" in _texts(drawing)
    assert "16 [4, all]" in _texts(drawing)
    assert "natural prevalence 30.0 %" in _texts(drawing)


def test_a_path_that_ends_before_all_channels_does_not_say_all(run: Run, invented: Callable[..., Run]) -> None:
    points = [row for row in _tables()[0]["points"] if row["rung"] != "full"]
    path = [{**row, "k": None, "n_channels": row["k"] + 0.5} for row in points]
    drawing = _one(drawings(invented(points=path)), "curves")
    assert list(_with(drawing, "curve")[0].get_xdata()) == [1.5, 4.5, 16.5]
    assert "with all" not in drawing.description
    assert "with all 64 channels" in _one(drawings(run), "curves").description


def test_depth_is_the_table(run: Run, found: list[Drawing]) -> None:
    drawing = _one(found, "depth", RARE)
    table = run.table("depth")
    table = table[table["concept"] == RARE]
    drawn = {(float(mark.get_xdata()[0]), float(mark.get_ydata()[0])) for mark in _with(drawing, "layer")}
    counted = table[table["k95"].notna()]
    assert drawn == {
        *zip(table["megaflops"], table["score"], strict=True),
        *zip(counted["k95"], counted["score"], strict=True),
    }
    front = table[table["front_cost"].astype(bool)]
    assert (
        list(_with(drawing, "front")[0].get_ydata())[: len(front)] == front.sort_values("megaflops")["score"].tolist()
    )
    assert len(_with(drawing, "chosen")) == 4


def test_precision_and_recall_are_those_of_the_margins(run: Run, found: list[Drawing]) -> None:
    _, arrays = _tables()
    drawing = _one(found, "precision-recall")
    labels = arrays["labels"][HOSTILE]
    for line, (backbone, layer) in zip(_with(drawing, "curve"), MODELS, strict=True):
        margins = arrays["margins"][f"{backbone}|{layer}|{HOSTILE}|full"]
        scored = (labels < 2) & ~np.isnan(margins)
        recall, precision = line.get_data()
        assert len(recall) <= 200
        assert (recall[-1], precision[-1]) == (1, np.mean(labels[scored] == 1))
        whole = precision_recall(margins[scored], labels[scored] == 1)
        assert (recall[0], precision[0]) == tuple(whole[0])
        assert {tuple(point) for point in zip(recall, precision, strict=True)} <= {tuple(point) for point in whole}
    (line,) = _with(drawing, "prevalence")
    assert set(line.get_ydata()) == {0.3}
    assert [mark.get_xydata().tolist() for mark in _with(drawing, "operating")] == [[[0.5, 0.25]]] * 2


@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=40).filter(
        lambda rows: any(y for _, y in rows)
    )
)
@settings(max_examples=60, deadline=None)
def test_the_curve_by_counting(rows: list[tuple[int, bool]]) -> None:
    margins, positive = np.array([m for m, _ in rows], float), np.array([y for _, y in rows])
    points = precision_recall(margins, positive)
    at, above = points[0::2], points[1::2]
    values = sorted(set(margins[positive]), reverse=True)
    for value, point in zip(values, at, strict=True):
        called = margins >= value
        assert point == pytest.approx([positive[called].sum() / positive.sum(), positive[called].mean()])
    for value, point in zip([*values[1:], -np.inf], above, strict=True):
        called = margins > value
        assert point == pytest.approx([positive[called].sum() / positive.sum(), positive[called].mean()])
    steps = np.diff(np.concatenate([[0.0], at[:, 0]]))
    assert (steps * at[:, 1]).sum() == pytest.approx(average_precision(margins, positive))


def test_thinning_changes_nothing_that_is_seen() -> None:
    rng = np.random.default_rng(1)
    positive = rng.random(200_000) < 0.01
    curve = precision_recall(rng.normal(size=200_000) + 2 * positive, positive)
    few = thinned(curve)
    assert len(few) <= 200
    assert few[[0, -1]].tolist() == curve[[0, -1]].tolist()
    start, along = few[:-1], np.diff(few, axis=0)
    length = np.maximum((along**2).sum(1), 1e-30)
    share = np.clip(((curve[:, None] - start) * along).sum(2) / length, 0, 1)
    off = np.hypot(*np.moveaxis(curve[:, None] - start - share[..., None] * along, 2, 0)).min(1)
    assert off.max() < 0.006  # less than the line is wide
    line = np.column_stack([np.linspace(0, 1, 50)] * 2)
    assert thinned(line, 10)[[0, -1]].tolist() == [[0, 0], [1, 1]]
    assert len(thinned(curve[:1])) == 1


@pytest.mark.parametrize(("concept", "rare"), [(HOSTILE, False), (RARE, True)])
def test_calibration_is_the_table(run: Run, found: list[Drawing], concept: str, rare: bool) -> None:
    drawing = _one(found, "calibration", concept)
    table = run.table("reliability")
    for gid, calibrated in (("before", False), ("after", True)):
        for marks, (backbone, layer) in zip(_with(drawing, gid), MODELS, strict=True):
            own = table[
                (table["point_id"] == f"{backbone}|{layer}|{concept}|full") & (table["calibrated"] == calibrated)
            ]
            shown = own[own["observed"] > 0] if rare else own
            assert marks.get_offsets().tolist() == shown[["predicted", "observed"]].to_numpy().tolist()
            assert list(marks.get_sizes()) == list(sizes(shown["cells"].to_numpy()))
            assert marks.axes.get_xscale() == ("log" if rare else "linear")
    none = [len(marks.get_xdata()) for marks in _with(drawing, "before none")]
    assert none == ([1, 1] if rare else []), "what a logarithmic axis has no place for is marked at its end"


def test_matches_are_drawn_once_each(found: list[Drawing]) -> None:
    drawing = _one(found, "matches")
    gids = [
        str(artist.get_gid())
        for artist in drawing.figure.findobj(lambda artist: str(artist.get_gid()).startswith("one-to-"))
    ]
    assert sorted(gids) == ["one-to-many 12", "one-to-one 10 1", "one-to-one 11 99"]
    (strong,), (weak,) = _with(drawing, "one-to-one 10 1"), _with(drawing, "one-to-one 11 99")
    assert strong.get_linewidth() > weak.get_linewidth()
    (fan,) = _with(drawing, "one-to-many 12")
    assert (fan.get_path().codes == 1).sum() == 3, "two curves and a stub"
    dots: list[Any] = drawing.figure.findobj(lambda artist: str(artist.get_gid()).startswith("channel "))
    left = [dot for dot in dots if dot.get_xdata()[0] < 120]
    assert [int(dot.get_gid().split()[1]) for dot in left] == list(range(10, 50)), "the 40 largest, by size"
    assert [int(dot.get_gid().split()[1]) for dot in dots if dot not in left] == [0, 1, 2, 3, 4, 99]
    aside = {dot.get_gid() for dot in left if dot.get_xdata()[0] < max(d.get_xdata()[0] for d in left)}
    assert aside == {f"channel {c}" for c in range(13, 50)}
    assert "and 5 more with smaller coefficients" in _texts(drawing)
    assert f"{ALPHA} body.1 (2 one-to-one, 1 one-to-many, 42 unmatched)" in drawing.title
    assert f"{BETA} <script> (1 one-to-one, 0 one-to-many, 4 unmatched)" in drawing.title


def test_the_largest_picture_of_matches_is_small(invented: Callable[..., Run]) -> None:
    rows = _matches(HOSTILE)
    for row in rows:
        row |= {"kind": "one-to-many", "rebuilt_by": [1, 2, 3, 4, 0] if row["channel"] > 9 else [10, 20, 30, 40, 48]}
    many = [{**row, "channel": row["channel"] + 100 * i} for row in rows for i in range(10)]
    assert len(svg(_one(drawings(invented(matches=many)), "matches")).encode()) < 60_000


def test_what_was_not_tested_is_said(invented: Callable[..., Run]) -> None:
    rows = [
        {**row, "kind": None, "partner": None, "r": None, "rebuilt_by": None, "reason": "too\x00 few <groups>"}
        for row in _matches(HOSTILE)
    ]
    drawing = _one(drawings(invented(matches=rows)), "matches")
    assert "45 not tested" in drawing.title
    assert "too  few <groups>" in drawing.description
    ElementTree.fromstring(svg(drawing))


def test_empty_tables_draw_nothing(invented: Callable[..., Run]) -> None:
    run = invented(matches=[], depth=[], reliability=[], points=[], results=[], nulls=[], k_tau=[])
    assert list(drawings(run)) == []
    run = invented(matches=[], depth=[], reliability=[], nulls=[], k_tau=[], models=[])
    assert list(drawings(run)) == []
    run = invented(depth=_tables()[0]["depth"][1:2])
    assert "depth" not in {d.section for d in drawings(run)}, "one layer is set against none"


def test_scores_that_are_null_are_left_out(invented: Callable[..., Run]) -> None:
    tables, _ = _tables()
    results = [{**row, "value": None, "lo": None, "hi": None} for row in tables["results"]]
    models = [{**row, "score": None} for row in tables["models"]]
    depth = [{**row, "score": None} for row in tables["depth"]]
    sections = [d.section for d in drawings(invented(results=results, models=models, depth=depth)) if svg(d)]
    assert set(sections) == {"precision-recall", "calibration", "matches"}
    zero = [{**row, "value": 0.0, "lo": 0.0, "hi": 0.0} for row in tables["results"]]
    assert all(svg(d) for d in drawings(invented(results=zero, nulls=[], k_tau=[], depth=[])))


def test_the_best_model_alone_has_the_accent(run: Run) -> None:
    names = [f"model {i}" for i in range(9)]
    models = [{**run.models.iloc[0].to_dict(), "backbone": name, "score": 0.9 - i / 10} for i, name in enumerate(names)]
    several = Run(run.path, run.info)
    several.__dict__["models"] = pd.DataFrame(models)
    looks = [look for _, look in sorted(Material(several).looks.items())]
    assert [look.colour == PALETTE["series-1"][0] for look in looks] == [True] + [False] * 8
    assert len({(look.colour, look.marker) for look in looks}) == 9


def test_figures_of_runs_in_several_repeats(surveyed: Run) -> None:
    found = list(drawings(surveyed))
    assert {"curves", "precision-recall", "calibration"} <= {d.section for d in found}
    for drawing in found:
        ElementTree.fromstring(svg(drawing))
        if drawing.section in ("precision-recall", "calibration"):
            assert "repeat 0" in _texts(drawing)
            assert "repeat 0" in drawing.description


def test_other_commands_do_not_import_matplotlib(finished: Run, child: Callable[..., subprocess.Popen[str]]) -> None:
    text = (
        "import sys\n"
        "from probekit.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    for arguments in (["--help"], ["plugins"], ["show", str(finished.path)]):
        process = child("-c", text, *arguments)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors


@pytest.mark.parametrize("theme", [0, 1])
def test_colours_stand_out_from_both_papers(theme: int) -> None:
    def luminance(colour: str) -> float:
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        return float(
            np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
        )

    paper = luminance(PALETTE["paper"][theme])
    for role, colours in PALETTE.items():
        if role not in ("paper", "grid"):
            low, high = sorted((luminance(colours[theme]), paper))
            assert (high + 0.05) / (low + 0.05) >= 4.5, role  # names are written in them
    assert len({light for light, _ in PALETTE.values()}) == len(PALETTE)


@given(st.lists(st.floats(-50, 150), min_size=1, max_size=20))
def test_labels_move_apart_and_no_farther(wanted: list[float]) -> None:
    placed = spread(wanted, 8, 0, 100)
    gap = min(8, 100 / max(len(wanted) - 1, 1))
    ordered = sorted(placed)
    assert all(b - a >= gap - 1e-6 for a, b in itertools.pairwise(ordered))
    assert ordered[0] >= -1e-6
    assert ordered[-1] <= 100 + 1e-6
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    assert [placed[i] for i in order] == ordered
    if all(0 <= w <= 100 for w in wanted) and all(b - a >= 8 for a, b in itertools.pairwise(sorted(wanted))):
        assert placed == pytest.approx(wanted)


@given(st.text(max_size=60), st.floats(12, 80))
@settings(max_examples=50, deadline=None)
def test_long_names_are_cut_in_their_middle(text: str, room: float) -> None:
    with styled():
        short = fitted(text, SMALL, room)
        assert short == text or (text_width(short, SMALL) <= room or len(short) <= 2)
        if short != text:
            head, tail = short.split("…", 1) if "…" not in text else (short[0], "")
            assert text.startswith(head)
            assert text.endswith(tail)


def test_names_that_differ_in_their_middle_are_cut_elsewhere() -> None:
    names = ["mobilenet-v1 random blocks.3", "mobilenet-v2 random blocks.3", "pixels"]
    with styled():
        room = 0.7 * text_width(names[0], SMALL)
        assert len({fitted(name, SMALL, room) for name in names}) == 2
        short = fitted_apart(names, SMALL, room)
        assert len(set(short)) == 3
        assert all(text_width(name, SMALL) <= room for name in short)


def test_ticks_are_few_and_inside() -> None:
    for low, high in ((1, 512), (0.0003, 1), (20.2, 42), (1, 2), (1e-6, 1)):
        ticks = log_ticks(low, high, 5)
        assert len(ticks) <= 5
        assert all(low / 1.001 <= tick <= high * 1.001 for tick in ticks)
        assert ticks == sorted(ticks)
