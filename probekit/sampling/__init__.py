"""What is drawn: folds of groups, images under a limit, training rows. Everything seeded, nothing depends on order."""

from probekit.sampling.limit import choose_images
from probekit.sampling.rows import DrawnRows, draw_rows, fold_weights, training_moments
from probekit.sampling.seeds import derive_seed, generator, hash_keys
from probekit.sampling.splits import Fold, OuterFolds, group_kfold, holdout, leave_one_outer_out, missing_classes

__all__ = [
    "DrawnRows", "Fold", "OuterFolds",
    "choose_images", "derive_seed", "draw_rows", "fold_weights", "generator", "group_kfold", "hash_keys", "holdout",
    "leave_one_outer_out", "missing_classes", "training_moments",
]  # fmt: skip
