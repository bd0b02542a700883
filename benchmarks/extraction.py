"""How fast extraction is, end to end into the store, and how much memory it takes.

    uv run python benchmarks/extraction.py [--json] [--images DIR] [--rounds N] [--count N] [--only timm|fasterrcnn]

For each of two networks, random weights, on the same JPEG files (1024 x 640 unless ``--images`` names others):

- *ours*: decode, prepare, forward, check, cell-major, checksum, safetensors, fsync (loading the model apart);
- *plain*: the loop that one writes with timm or torchvision as they come: decode, the library's own preprocessing,
  forward with a hook on the default float32 model, keep the array in memory;
- *forward*: our optimised forward pass alone, on tensors that are ready.

The three take turns in every round; the figures are medians over the rounds of the time an image, and of the ratios
within a round. Goals: ours / plain <= .7, ours / forward <= 1.3. Peak memory is that of a process of its own that
extracts a number of images, and of one that extracts four times as many: it should be flat.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from probekit.api import Backbone, Batch
from probekit.features.extract import Item, Request, extract
from probekit.features.memory import predict
from probekit.features.store import Store
from probekit.plugins import load_plugins

GOALS = {"plain": 0.7, "forward": 1.3}


@dataclass(frozen=True)
class Case:
    name: str
    plugin: str
    parameters: dict[str, Any]
    layer: str
    plain: Callable[[], Callable[[NDArray[np.uint8]], NDArray[np.float32]]]


def plain_timm() -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    import timm

    model: Any = timm.create_model("mobilenetv1_100", pretrained=False).eval()
    config = model.pretrained_cfg
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    kept: list[torch.Tensor] = []
    model.get_submodule("blocks.3").register_forward_hook(lambda _module, _inputs, output: kept.append(output))

    def features(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        tensor = (torch.tensor(image).permute(2, 0, 1).float() / 255 - mean) / std
        kept.clear()
        with torch.no_grad():
            model.forward_features(tensor[None])
        return kept[0][0].numpy()

    return features


def plain_torchvision() -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    from torchvision.models.detection import fasterrcnn_resnet50_fpn
    from torchvision.transforms.functional import to_tensor

    model: Any = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval()
    kept: list[torch.Tensor] = []
    model.backbone.body.layer4.register_forward_hook(lambda _module, _inputs, output: kept.append(output))

    def features(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        kept.clear()
        with torch.no_grad():
            images, _ = model.transform([to_tensor(image.copy())])
            model.backbone.body(images.tensors)
        return kept[0][0].numpy()

    return features


CASES = (
    Case("mobilenetv1_100 blocks.3", "timm", {"model": "mobilenetv1_100", "weights": "random"}, "blocks.3", plain_timm),
    Case(
        "fasterrcnn_resnet50_fpn body.layer4",
        "fasterrcnn",
        {"model": "fasterrcnn_resnet50_fpn", "weights": "random"},
        "body.layer4",
        plain_torchvision,
    ),
)


def decode(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def build(case: Case) -> tuple[Backbone, str, str]:
    plugin = load_plugins().backbone(case.plugin)
    parameters = plugin.descriptor.parameters.model_validate(case.parameters)
    return plugin.load()(parameters, seed=0), plugin.qualified, plugin.descriptor.version


def run_ours(case: Case, paths: Sequence[Path], batch_size: int | None = None) -> float:
    """Seconds for all the files, into a store that is new."""
    backbone, adapter, version = build(case)
    request = Request(case.name, backbone, [case.layer], adapter, version, batch_size=batch_size)
    items = [Item(f"file:{i}", path.name, partial(decode, path)) for i, path in enumerate(paths)]
    with tempfile.TemporaryDirectory() as folder:
        return extract(request, items, Store(Path(folder))).seconds


def run_plain(features: Callable[[NDArray[np.uint8]], NDArray[np.float32]], paths: Sequence[Path]) -> float:
    kept, started = [], time.perf_counter()
    for path in paths:
        kept.append(features(decode(path)))  # noqa: PERF401
    return time.perf_counter() - started


def run_forward(backbone: Backbone, layer: str, batches: Sequence[Batch]) -> float:
    started = time.perf_counter()
    with torch.inference_mode():
        for batch in batches:
            backbone.forward(batch, [layer])
    return time.perf_counter() - started


def compare(case: Case, paths: Sequence[Path], rounds: int, batch_size: int | None) -> dict[str, Any]:
    plain = case.plain()
    backbone, _, _ = build(case)
    backbone.load([case.layer], torch.device("cpu"), torch.float32)
    prepared = [backbone.prepare(decode(path)) for path in paths]
    batches = [Batch(one.tensor[None], [one.geometry]) for one in prepared]
    tasks: dict[str, Callable[[], float]] = {
        "ours": lambda: run_ours(case, paths, batch_size),
        "plain": lambda: run_plain(plain, paths),
        "forward": lambda: run_forward(backbone, case.layer, batches),
    }
    for task in tasks.values():
        task()  # first passes choose kernels and read plugins
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(rounds):
        for name in list(tasks)[turn % 3 :] + list(tasks)[: turn % 3]:
            seconds[name].append(tasks[name]() / len(paths))
    ratios = {
        goal: statistics.median(a / b for a, b in zip(seconds["ours"], seconds[goal], strict=True)) for goal in GOALS
    }
    return {
        "seconds_per_image": {name: statistics.median(values) for name, values in seconds.items()},
        "ours_over": ratios,
        "goals": GOALS,
        "met": {goal: ratios[goal] <= GOALS[goal] for goal in GOALS},
    }


def peak_memory() -> int:
    """Of this process since it was started, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent held when it forked
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        assert found
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory(paths: Sequence[Path], count: int) -> int:
    """Peak memory of a process that extracts so many images."""
    command = [sys.executable, __file__, "--images", str(paths[0].parent), "--memory", str(count)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def photographs(folder: Path, count: int) -> list[Path]:
    """Coloured noise, the stronger the coarser, as JPEG files of 1024 x 640."""
    random, paths = np.random.default_rng(0), []
    for i in range(count):
        total = np.zeros((640, 1024, 3))
        for octave in range(8):
            coarse = random.integers(0, 256, (640 // 2**octave, 1024 // 2**octave, 3), dtype=np.uint8)
            picture = Image.fromarray(coarse).resize((1024, 640), Image.Resampling.BILINEAR)
            total += (np.asarray(picture) - 127.5) * 1.7**octave
        scaled = np.clip(127.5 + 50 * total / total.std(), 0, 255).astype(np.uint8)
        paths.append(folder / f"{i:03d}.jpg")
        Image.fromarray(scaled).save(paths[-1], quality=92)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--images", type=Path, help="a folder of photographs (.jpg)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=8, help="images in a round")
    parser.add_argument("--batch-size", type=int, default=None)
    parser.add_argument("--only", choices=[case.plugin for case in CASES], help="one of the two networks")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.images
        paths = sorted(folder.glob("*.jpg")) if folder else photographs(Path(temporary), arguments.count)
        if arguments.memory:
            run_ours(CASES[0], [paths[i % len(paths)] for i in range(arguments.memory)])
            print(peak_memory())
            return
        result: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads(), "cases": {}}
        used = paths[: arguments.count]
        for case in [case for case in CASES if arguments.only in (None, case.plugin)]:
            result["cases"][case.name] = compare(case, used, arguments.rounds, arguments.batch_size)
        counts = (2 * arguments.count, 8 * arguments.count)
        peaks = [memory(paths, count) for count in counts]
        height, width = decode(paths[0]).shape[:2]
        predicted = predict(build(CASES[0])[0], [CASES[0].layer], [(height, width)] * counts[1], "float32")
        result["memory"] = {
            "images": counts,
            "peak_bytes": peaks,
            "growth": peaks[1] / peaks[0],
            "predicted_store_bytes": sum(predicted.store.values()),
        }
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{result['threads']} threads, torch {result['torch']}, {len(used)} images, {arguments.rounds} rounds")
    for name, case_result in result["cases"].items():
        times, ratios = case_result["seconds_per_image"], case_result["ours_over"]
        print(
            f"{name}: ours {times['ours']:.3f} s an image, plain {times['plain']:.3f}, forward {times['forward']:.3f}"
        )
        for goal, limit in GOALS.items():
            verdict = "met" if ratios[goal] <= limit else "NOT met"
            print(f"  ours / {goal:<8} {ratios[goal]:.2f}   goal <= {limit}   {verdict}")
    low, high = (f"{peak / 1e6:.0f} MB" for peak in peaks)
    print(f"peak memory: {low} at {counts[0]} images, {high} at {counts[1]} ({peaks[1] / peaks[0]:.2f} times)")


if __name__ == "__main__":
    main()
