"""segment-anything's automatic mask generator, run on one image at a time. Imports torch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import SamAutomaticMaskGenerator

from probekit.api import ParameterError
from probekit_sam.label_parameters import SamMasksParameters
from probekit_sam.networks import load_sam
from probekit_sam.regions import Region, perimeter
from probekit_sam.weights import weights_file


class MaskMaker:
    """The generator with its model, loaded once.

    Raises:
        ParameterError: the weights do not fit, or the device is not there.
    """

    def __init__(self, parameters: SamMasksParameters, seed: int) -> None:
        try:
            device = torch.device(parameters.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            what = f"{parameters.device!r} is not to be had here ({str(error).splitlines()[0]}): cpu always is"
            raise ParameterError(("device",), what) from error
        model = load_sam(parameters, weights_file(parameters), seed).to(device)
        options = parameters.generator.model_dump()
        self._generator = SamAutomaticMaskGenerator(model, output_mode="uncompressed_rle", **options)

    def make(self, image: NDArray[np.uint8]) -> list[Region]:
        """All masks of one photograph, (height, width, 3) RGB, with what rules ask for."""
        height, width = image.shape[:2]
        regions = []
        for record in self._generator.generate(image):
            counts = np.array(record["segmentation"]["counts"], dtype=np.int64)
            scores = float(record["stability_score"]), float(record["predicted_iou"])
            bare = Region(counts, float(record["area"]), 0.0, *scores)
            regions.append(Region(counts, bare.area, perimeter(bare.mask(height, width)), *scores))
        return regions
