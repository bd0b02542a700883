"""A methods paragraph for a paper, made from what a run's record says was done: nothing that was not run is in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from probekit.report.page.reader import Reader

_SOURCES = {
    "jackknife": "Efron & Stein (1981), Ann. Stat. 9, 586",
    "holm": "Holm (1979), Scand. J. Stat. 6, 65",
    "fdr": "Benjamini & Hochberg (1995), J. R. Stat. Soc. B 57, 289",
    "control task": "Hewitt & Liang (2019), EMNLP",
    "stability": "Shah & Samworth (2013), J. R. Stat. Soc. B 75, 55",
    "knockoffs": "Candes, Fan, Janson & Lv (2018), J. R. Stat. Soc. B 80, 551",
    "code": "Voita & Titov (2020), EMNLP",
    "cka": "Song et al. (2012), JMLR 13, 1393; Kornblith et al. (2019), ICML",
}


def methods(reader: Reader) -> list[str]:
    """Paragraphs: data, models and probes, what was tested, what was compared, with what; then the sources cited."""
    cited: list[str] = []
    said = [_data(reader), _models(reader), _protocol(reader), _statistics(reader, cited), _across(reader, cited)]
    said += [_made_with(reader)]
    if cited:
        said.append("Sources: " + "; ".join(_SOURCES[key] for key in dict.fromkeys(cited)) + ".")
    return [text for text in said if text]


def _data(reader: Reader) -> str:
    info, spec = reader.run.info, reader.run.info["spec"]
    makers = [(made["made_by"], made["detail"]) for made in info["label_provenance"].values()]
    by = _listed(dict.fromkeys(f"{_MAKERS.get(who, who)}{f' ({detail})' if detail else ''}" for who, detail in makers))
    labels, grid = spec["labels"], spec["evaluation"]["grid"]
    said = [
        f"We probed frozen vision models for {_listed(info['concepts'])} on {len(info['images'])} images in "
        f"{len(info['groups'])} groups; the labels were made by {by}."
    ]
    if info["skipped"]:
        said.append(f"{len(info['skipped'])} further images could not be used.")
    said.append(
        f"All models were scored on one grid of {grid}-pixel cells of the original images: a cell is positive where at "
        f"least {_percent(labels['positive'])} of it is the concept, negative where at most "
        f"{_percent(labels['negative'])} is, "
        "and left out in between."
    )
    counts = [
        f"{name}: {label['scored_cells']:,} cells, {label['scored_positives']:,} positive, in "
        f"{label['groups_with_positives']} groups"
        for name, label in info["labels"].items()
    ]
    said.append(f"Scored cells were, for {'; for '.join(counts)}.")
    if spec.get("tile"):
        tile = spec["tile"]
        said.append(
            f"Images larger than {tile['size']} pixels were cut into tiles of it, {tile['overlap']} overlapping."
        )
    if spec.get("limit"):
        said.append(f"The images are a seeded sample of at most {spec['limit']}.")
    return " ".join(said)


_ASSUMPTIONS = {
    "none": "takes nothing to be true of how often channels are selected",
    "unimodal": "takes the selection of false channels to be unimodal",
    "r-concave": "takes the selection of false channels to be r-concave",
}
_MAKERS = {"people": "people", "model": "a model", "renderer": "a renderer"}


def _models(reader: Reader) -> str:
    backbones = reader.run.info["backbones"]
    told = []
    for name, about in backbones.items():
        if about["control"]:
            continue
        layers = _listed(f"{layer} ({tap['channels']} channels)" for layer, tap in about["layers"].items())
        told.append(f"{name} ({about['weights']['source']}; {layers}; {about['dtype']} on {about['device']})")
    return f"The models were {_listed(told)}; no weight was trained." if told else ""


def _protocol(reader: Reader) -> str:
    info, spec = reader.run.info, reader.run.info["spec"]
    split = spec["split"]
    blocks = split.get("by") == "blocks"
    one, many = ("block", "blocks") if blocks else ("group", "groups")
    folds = split["scheme"] == "group-kfold"
    if folds:
        how = (
            f"Each {one} was tested once, in {split['folds']} folds of whole {many}; of each fold's training {many} "
            f"{_percent(split['validation'])} made all its choices (regularisation, size, threshold, calibration). "
            "Test scores are pooled out of fold"
        )
    else:
        how = (
            f"Whole {many} were held out: {_percent(split['test'])} for test, {_percent(split['validation'])} for all "
            "choices (regularisation, size, threshold, calibration). Scores are of the test part"
        )
    said = [f"{how}, at natural prevalence."]
    if blocks:
        said.append(
            f"Blocks are parts of images of at most {split['size']} pixels a side, with at least {split['buffer']} "
            "pixels between those of different parts of the split."
        )
    if folds:
        said.append("Margins were standardised by their fold's training negatives before they were pooled.")
    used = "each fold uses its training part" if folds else "the training part is used"
    said.append(
        f"Probes were trained on at most {spec['sampling']['per_class']:,} cells of each class and concept, drawn once "
        f"over all groups (seed {spec['seed']}), of which {used}."
    )
    if info["repeats"] > 1:
        drawn = "folds" if folds else "the split"
        said.append(
            f"Everything was repeated with {info['repeats']} draws of {drawn} and of training rows; scores are their "
            "means."
        )
    told = [f"{name} ({entry['use']}; {_written(entry['with'])})" for name, entry in spec["probes"].items()]
    said.append(f"The probes were {_listed(told)}; tables compare models by {info['reported_probe']}.")
    return " ".join(said)


def _statistics(reader: Reader, cited: list[str]) -> str:
    spec, models = reader.run.info["spec"], reader.table("models")
    said = ["Models are compared by average precision."]
    reasons = models["reason"].dropna().unique()
    if models["lo"].notna().any():
        said.append("Intervals are 95 % delete-one-group jackknives on the logit scale.")
        cited.append("jackknife")
    if len(reasons):
        said.append(f"Where there is no interval: {'; '.join(map(str, reasons))}.")
    if reader.table("differences")["p"].notna().any():
        said.append(
            "Pairs of models were tested by exchanging them group by group (swap test), adjusted by Holm's method."
        )
        cited.append("holm")
    curves = reader.table("k_tau")
    if curves["k"].notna().any():
        sets = ", with the set of widths that the data do not exclude at 95 %" if curves["lo"].notna().any() else ""
        said.append(
            "How few channels suffice is the smallest width whose refitted probe reaches the stated share of the full "
            f"probe's test score{sets}."
        )
    said += _nulls(reader, spec, cited)
    stability = spec["stability"]
    if len(reader.table("stability")):
        taken = dict.fromkeys(str(name) for name in reader.table("stability")["assumption"].dropna())
        bound = _listed(_ASSUMPTIONS.get(name, name) for name in taken) if taken else ""
        said.append(
            f"Channels are called stable by stability selection on {stability['pairs']} pairs of complementary halves "
            f"of the groups, at most {stability['expected_false']:g} of them expected to be false"
            f"{f' by the bound that {bound}' if bound else ''}."
        )
        cited.append("stability")
        if stability["knockoffs"] is not None:
            said.append(
                f"They were also selected against model-X knockoffs at a false discovery rate of "
                f"{stability['knockoffs']:g}."
            )
            cited.append("knockoffs")
    if len(reader.table("codes")):
        said.append("How easily labels are read was measured as the length of their online code.")
        cited.append("code")
    if spec["evaluation"].get("bootstrap"):
        said.append(
            f"Percentile bootstraps of groups ({spec['evaluation']['bootstrap']} resamples) stand beside the intervals."
        )
    return " ".join(said)


def _nulls(reader: Reader, spec: Mapping[str, Any], cited: list[str]) -> Iterator[str]:
    names = dict.fromkeys(str(name) for name in reader.rows("nulls", decides=True)["null"])
    if not names:
        yield "Models were held against no null."
        return
    shown = ["permuted labels" if name == "permuted-labels" else name for name in names]
    beaten = _listed(dict.fromkeys(name.partition(" · ")[0] for name in shown))
    tested = reader.rows("nulls", decides=True)["p"]
    twin = " (a twin is the same network with random weights)" if any(name.startswith("twin") for name in shown) else ""
    if tested.notna().any():
        yield (
            f"A model's full probe was held against {beaten}{twin}, controls as read by every probe of the run, "
            "in one-sided paired tests at .05 each; a model that was tested and not shown to be above one of them has "
            "no rank."
        )
        if tested.isna().any():
            yield "What could not be tested counts neither for a model nor against it."
    else:
        yield (
            f"A model's full probe stands beside {beaten}{twin}; none of them could be tested, which counts neither "
            "for a model nor against it."
        )
    others = dict.fromkeys(str(name) for name in reader.rows("nulls", decides=False)["null"])
    if "random-channels" in others:
        yield f"Random channels ({spec['nulls']['random_channels']} draws at each size) are shown beside."
    if "control-task" in others:
        yield "So is a control task: random labels of clusters of colour."
        cited.append("control task")


def _across(reader: Reader, cited: list[str]) -> str:
    spec = reader.run.info["spec"].get("comparison", {})
    said = []
    if reader.table("matches")["p"].notna().any():
        said.append(
            "Selected channels of one model were set against all channels of another over the same cells: correlations "
            "with the trend over the image taken out, each group in its own contrast, and what a few channels rebuild "
            f"on groups left out, each tested against {spec['draws']:,} random re-pairings of whole groups, with "
            "false discovery rates by Benjamini and Hochberg (.025 for each of the two tests, within a pair of models "
            "and a concept). "
            "A match explains at least a quarter of a channel's variance."
        )
        cited.append("fdr")
    if len(reader.table("subspaces")):
        said.append("What a linear map rebuilds is R² on groups that were left out; unbiased linear CKA stands beside.")
        cited.append("cka")
    if len(reader.table("complements")):
        said.append("What one model adds to another is the gain of a joint probe on both models' selected channels.")
        if reader.table("complements")["p_holm"].notna().any():
            said.append("Gains were tested by swap tests, adjusted by Holm's method.")
            cited.append("holm")
    if len(reader.table("interactions")):
        said.append("Products of selected channels were tested by score tests, groups being the units.")
        cited.append("fdr")
    ablation = reader.table("ablation")["draws"].dropna()
    if len(ablation):
        said.append(
            "Selected channels were set to their mean in the forward pass and the concept scored at a later "
            "layer, against "
            f"{int(ablation.max())} draws of as many other channels of like variance."
        )
    return " ".join(said)


def _made_with(reader: Reader) -> str:
    made = reader.run.info["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in made["packages"].items())
    plugins = ", ".join(f"{name} {version}" for name, version in made["plugins"].items())
    devices = _listed(dict.fromkeys(made["devices"].values()))
    return (
        f"Computed with probekit {made['probekit']} on Python {made['python']} ({made['platform']}, {devices}); "
        f"{packages}; "
        f"plugins {plugins}."
    )


def _listed(names: Any) -> str:
    """``a, b and c``."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _written(parameters: Mapping[str, Any]) -> str:
    """Parameters as ``name value``, those that are not set left out."""
    kept = {key: value for key, value in parameters.items() if value is not None}
    return (
        ", ".join(f"{key} {value if isinstance(value, str) else json.dumps(value)}" for key, value in kept.items())
        or "no parameters"
    )
