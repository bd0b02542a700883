"""Null conditions: the same images, cuts and groups, labels that mean nothing; tiles and sizes make no difference."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import average_precision_score

from probekit.api import (
    NEGATIVE,
    POSITIVE,
    VOID,
    Affine,
    Grid,
    ImageRef,
    ProbekitError,
    Provenance,
    UnreadableImageError,
)
from probekit.runner.analyses.conditions import condition_notes, control_task, permuted_labels
from probekit.runner.dataset import build_dataset
from probekit.runner.progress import Silent
from probekit.runner.rows import native_labels
from probekit.sampling import generator
from probekit.sampling.control_task import colour_statistics

CELL = 8
SIZES = ((64, 80), (61, 94), (80, 64))
CONCEPTS = ("rare", "common")
SHARES = {"rare": 0.06, "common": 0.3}


class Mosaic:
    """Cells of 40 colours with a little noise; masks of whole cells drawn at random, some void, some in between."""

    def __init__(self, groups=8, images=3, sizes=SIZES, colours=40, large=0, name="g{}"):
        self.colours, self.name = colours, name
        names = [(f"i{g}{i:02d}", g) for g in range(groups) for i in range(large if large and g == 0 else images)]
        self._images = [
            ImageRef(image, name.format(g), *sizes[n % len(sizes)], f"sha256:{image}")
            for n, (image, g) in enumerate(names)
        ]
        self.unreadable = False

    concepts = CONCEPTS
    provenance = Provenance("renderer")

    def check(self):
        return ()

    def images(self):
        return self._images

    def cells(self, image, what):
        rng = generator(0, image.id, what)
        return rng, (-(-image.height // CELL), -(-image.width // CELL))

    def open(self, image):
        if self.unreadable:
            raise UnreadableImageError("gone")
        rng, shape = self.cells(image, "colours")
        palette = np.random.default_rng(7).integers(20, 235, (self.colours, 3))
        pixels = palette[rng.integers(0, self.colours, shape)].repeat(CELL, 0).repeat(CELL, 1)
        noise = rng.integers(-3, 4, pixels.shape) if self.colours > 1 else 0
        return np.ascontiguousarray((pixels + noise)[: image.height, : image.width]).astype(np.uint8)

    def mask(self, image, concept):
        rng, shape = self.cells(image, concept)
        kind = np.where(rng.random(shape) < SHARES[concept], POSITIVE, NEGATIVE)
        kind[rng.random(shape) < 0.1] = VOID
        mask = kind.repeat(CELL, 0).repeat(CELL, 1).astype(np.uint8)
        mask[::CELL, :] = NEGATIVE  # a share of 7/8
        half = rng.random(shape) < 0.05
        mask[half.repeat(CELL, 0).repeat(CELL, 1) & (np.arange(mask.shape[1]) % CELL < 1)] = POSITIVE
        return mask[: image.height, : image.width].copy()

    def mask_digest(self, image, concept):
        return f"sha256:{image.id}/{concept}"


def dataset_of(source, tile=None, block=None):
    experiment = SimpleNamespace(
        tile=tile and SimpleNamespace(size=tile, overlap=CELL),
        labels=SimpleNamespace(positive=0.5, negative=0.05),
        evaluation=SimpleNamespace(grid=CELL),
        split=SimpleNamespace(size=block),
        limit=None,
        strict=False,
        seed=0,
    )
    return build_dataset(source, experiment, 2, Silent())


CONDITIONS = pytest.mark.parametrize("condition", [permuted_labels, control_task])
TILES = pytest.mark.parametrize("tile", [None, 32])


def assert_same_labels(one, other):
    assert one.concepts == other.concepts
    for concept in range(len(one.concepts)):
        assert np.array_equal(one.flat_labels(concept), other.flat_labels(concept))


def whole(dataset, concept, image):
    """The labels of an image's reference grid, whatever its cuts."""
    labels = np.full((-(-image.height // CELL), -(-image.width // CELL)), -1)
    for cut, part in zip(dataset.cuts, dataset.labels[concept], strict=True):
        if cut.image.id == image.id:
            at = cut.reference.to_pixels
            row, column = int(at.offset_y) // CELL, int(at.offset_x) // CELL
            labels[row : row + cut.reference.rows, column : column + cut.reference.columns] = part.values
    assert (labels >= 0).all()
    return labels


@CONDITIONS
@TILES
def test_only_labels_change_and_they_are_those_of_the_masks(condition, tile):
    dataset = dataset_of(Mosaic(), tile)
    null = condition(dataset, 3, 2)
    assert (null.cuts, null.groups, null.outer, null.thresholds, null.skipped, null.concepts) == (
        dataset.cuts, dataset.groups, dataset.outer, dataset.thresholds, dataset.skipped, dataset.concepts,
    )  # fmt: skip
    image = dataset.cuts[0].image
    assert list(null.source.images()) == list(dataset.source.images())
    assert null.source.provenance == dataset.source.provenance
    assert list(null.source.check()) == []
    assert null.source.mask_digest(image, "rare") == dataset.source.mask_digest(image, "rare")
    assert np.array_equal(null.source.open(image), dataset.source.open(image))
    for concept, name in enumerate(CONCEPTS):
        assert not np.array_equal(null.flat_labels(concept), dataset.flat_labels(concept))
        for cut, labels in zip(null.cuts, null.labels[concept], strict=True):
            mask = null.source.mask(cut.image, name)
            assert mask.dtype == np.uint8
            assert mask.shape == (cut.image.height, cut.image.width)
            assert np.array_equal(cut.labels(mask, cut.reference, null.thresholds).values, labels.values)
    assert condition_notes(dataset) == condition_notes(null) == ()


@CONDITIONS
def test_seed_and_ids_decide_not_threads_order_tiles_or_the_names_of_groups(condition):
    dataset = dataset_of(Mosaic())
    null = condition(dataset, 3, 1)
    assert_same_labels(null, condition(dataset, 3, 4))
    other = condition(dataset, 4, 1)
    assert not np.array_equal(null.flat_labels(0), other.flat_labels(0))
    renamed = condition(dataset_of(Mosaic(name="stretch {}")), 3, 1)
    assert_same_labels(null, renamed)
    backwards = replace(dataset, cuts=dataset.cuts[::-1], labels=tuple(tuple(reversed(of)) for of in dataset.labels))
    reversed_null = condition(backwards, 3, 2)
    tiled = condition(dataset_of(Mosaic(), 32), 3, 2)
    for image in dataset.source.images():
        for concept in range(2):
            expected = whole(null, concept, image)
            assert np.array_equal(whole(reversed_null, concept, image), expected)
            assert np.array_equal(whole(tiled, concept, image), expected)


@CONDITIONS
def test_masks_belong_to_the_caller(condition):
    null = condition(dataset_of(Mosaic(groups=3)), 3, 1)
    image = null.cuts[0].image
    mask = null.source.mask(image, "rare")
    kept = mask.copy()
    mask[:] = POSITIVE
    assert np.array_equal(null.source.mask(image, "rare"), kept)


@CONDITIONS
@TILES
def test_a_layers_own_grid_is_labelled_from_the_same_masks(condition, tile):
    dataset = dataset_of(Mosaic(), tile)
    null = condition(dataset, 3, 2)
    windows = {cut.key: cut.tile for cut in null.cuts}

    def grid(key, step):
        tile = windows[key]
        rows, columns = -(-tile.window.height // step), -(-tile.window.width // step)
        return tile.place(Grid(rows, columns, Affine(float(step), float(step)), rows, columns))

    fine = native_labels(null, SimpleNamespace(grid=lambda key: grid(key, CELL // 2)))
    for concept in range(2):
        found = np.concatenate(fine[concept])
        assert {NEGATIVE, POSITIVE, VOID} == set(np.unique(found))
        labelled = found[found != VOID]
        reference = null.flat_labels(concept)
        expected = (reference == POSITIVE).sum() / (reference != VOID).sum()
        assert (labelled == POSITIVE).mean() == pytest.approx(expected, rel=0.15)


@TILES
def test_permuted_labels_are_those_of_an_image_of_another_group_as_far_as_it_reaches(tile):
    dataset = dataset_of(Mosaic(), tile)
    null = permuted_labels(dataset, 3, 2)
    images = dataset.source.images()
    given = []
    for image in images:
        masks = [null.source.mask(image, concept) for concept in CONCEPTS]
        donors = []
        for other in images:
            height, width = min(image.height, other.height), min(image.width, other.width)
            theirs = [dataset.source.mask(other, concept)[:height, :width] for concept in CONCEPTS]
            if all(np.array_equal(a[:height, :width], b) for a, b in zip(masks, theirs, strict=True)):
                donors.append(other)
                for mask in masks:  # the same donor for all concepts, the rest void
                    assert (mask[height:] == VOID).all()
                    assert (mask[:, width:] == VOID).all()
        (donor,) = donors
        assert donor.group != image.group
        # Sizes come in turn, so that each group has one image of each: all can keep theirs.
        assert (donor.height, donor.width) == (image.height, image.width)
        given.append(donor.id)
    assert sorted(given) == [image.id for image in images]


def test_sizes_that_no_other_group_has_leave_the_rest_void():
    source = Mosaic(groups=4, images=1, sizes=((64, 80), (72, 48), (40, 96), (56, 56)))
    dataset = dataset_of(source)
    null = permuted_labels(dataset, 0, 1)
    images = {image.id: image for image in source.images()}
    void = 0
    for image in images.values():
        mask = null.source.mask(image, "common")
        fits = []
        for other in images.values():
            if other.group != image.group:
                height, width = min(image.height, other.height), min(image.width, other.width)
                expected = np.full_like(mask, VOID)
                expected[:height, :width] = source.mask(other, "common")[:height, :width]
                fits.append(np.array_equal(mask, expected))
        assert sum(fits) == 1
        bare = mask.copy()
        bare[: -(-image.height // 2), : -(-image.width // 2)] = NEGATIVE
        void += (bare == VOID).all(axis=0).sum() + (bare == VOID).all(axis=1).sum()
    assert void > 0
    for concept in range(2):
        assert null.count(concept).unlabelled > 0


def test_a_group_too_large_is_said():
    dataset = dataset_of(Mosaic(groups=3, images=2, large=7))
    null = permuted_labels(dataset, 0, 1)
    (note,) = condition_notes(null)
    assert "7 of 11 images" in note
    assert "up to 2 times" in note
    assert "3 of the large group's not at all" in note
    with pytest.raises(ProbekitError, match="at least two groups"):
        permuted_labels(dataset_of(Mosaic(groups=1)), 0, 1)


@TILES
def test_the_control_task_scores_the_observed_cells_at_about_their_prevalence(tile):
    dataset = dataset_of(Mosaic(groups=12), tile)
    null = control_task(dataset, 3, 2)
    for concept in range(2):
        before, after = dataset.flat_labels(concept), null.flat_labels(concept)
        assert np.array_equal(before == VOID, after == VOID)
        assert (before == VOID).any()
        prevalence, share = ((of == POSITIVE).sum() / (of != VOID).sum() for of in (before, after))
        assert share == pytest.approx(prevalence, abs=0.01)
        # It has nothing to do with the concept.
        assert (before == POSITIVE)[after == POSITIVE].mean() == pytest.approx(prevalence, abs=0.08)


def described(dataset):
    """Colour statistics and group of each reference cell, flat, cut by cut (none tiled)."""
    cells = [colour_statistics(dataset.source.open(cut.image), CELL).reshape(-1, 6) for cut in dataset.cuts]
    return np.concatenate(cells), dataset.cell_groups


def test_the_control_task_can_be_learned_from_colours_in_other_groups_and_permuted_labels_cannot():
    # More colours than clusters: what tells two clusters apart is no noise.
    dataset = dataset_of(Mosaic(groups=12, colours=150))
    colours, groups = described(dataset)
    reached = {}
    for condition in (control_task, permuted_labels):
        null = condition(dataset, 3, 2)
        for concept, name in enumerate(CONCEPTS):
            labels = null.flat_labels(concept)
            train, test = ((labels != VOID) & (part) for part in (groups < 8, groups >= 8))
            forest = RandomForestClassifier(60, random_state=0, min_samples_leaf=3)
            forest.fit(colours[train], labels[train])
            scores = forest.predict_proba(colours[test])[:, 1]
            prevalence = (labels[test] == POSITIVE).mean()
            reached[condition, name] = average_precision_score(labels[test], scores), prevalence
    for name in CONCEPTS:
        learned, prevalence = reached[control_task, name]
        assert learned > prevalence + 0.4  # from 2,000 cells
        chance, prevalence = reached[permuted_labels, name]
        assert chance < prevalence + 0.05


def test_cells_of_equal_colours_have_equal_labels():
    source = Mosaic(groups=6)
    plain = source.open

    def few_colours(image):  # no noise: 40 kinds of cells, slivers at the border aside
        return (plain(image) // 16 * 16).astype(np.uint8)

    source.open = few_colours
    dataset = dataset_of(source)
    null = control_task(dataset, 3, 2)
    colours, _ = described(dataset)
    for concept in range(2):
        labels = null.flat_labels(concept)
        kept = labels != VOID
        kinds = np.unique(colours[kept], axis=0, return_inverse=True)[1].ravel()
        positives = np.bincount(kinds, labels[kept] == POSITIVE)
        assert (np.bincount(kinds) > 1).sum() > 30
        assert np.isin(positives / np.bincount(kinds), (0.0, 1.0)).all()


def test_each_concept_has_a_draw_of_its_own():
    source = Mosaic(groups=8)
    source.mask = lambda image, concept: Mosaic.mask(source, image, "common")
    dataset = dataset_of(source)
    assert np.array_equal(dataset.flat_labels(0), dataset.flat_labels(1))
    null = control_task(dataset, 3, 2)
    assert not np.array_equal(null.flat_labels(0), null.flat_labels(1))


def test_one_colour_and_lost_photographs_are_one_clear_error():
    with pytest.raises(ProbekitError, match=r"rare  no control task(.|\n)*common  no control task"):
        control_task(dataset_of(Mosaic(groups=3, colours=1)), 0, 1)
    source = Mosaic(groups=3)
    dataset = dataset_of(source)
    source.unreadable = True
    with pytest.raises(ProbekitError, match="i000  cannot be decoded any more: gone"):
        control_task(dataset, 0, 1)


def test_blocks_of_one_image_exchange_their_label_maps():
    source = Mosaic(groups=1, images=1, sizes=((160, 192),))
    dataset = dataset_of(source, tile=32, block=80)
    assert len(dataset.groups) == 6
    null = permuted_labels(dataset, 0, 1)
    (image,) = source.images()
    observed, mask = source.mask(image, "common"), null.source.mask(image, "common")
    boxes = {}
    for cut in dataset.cuts:
        core, box = cut.tile.core, boxes.setdefault(cut.group, [10**6, 10**6, 0, 0])
        box[:] = min(box[0], core.y), min(box[1], core.x), max(box[2], core.bottom), max(box[3], core.right)
    blocks = {group: (slice(y, bottom), slice(x, right)) for group, (y, x, bottom, right) in boxes.items()}
    given = []
    for group, block in blocks.items():
        donors = []
        for other, theirs in blocks.items():
            part, expected = mask[block], observed[theirs]
            rows, columns = np.minimum(part.shape, expected.shape)
            same = np.array_equal(part[:rows, :columns], expected[:rows, :columns])
            if same and (part[rows:] == VOID).all() and (part[:, columns:] == VOID).all():
                donors.append(other)
        assert len(donors) == 1
        assert donors != [group]
        given += donors
    assert sorted(given) == sorted(blocks)
