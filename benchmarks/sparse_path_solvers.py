"""The solvers of sparse_path.py, each in a process of its own: load, solve under the clock, leave (w, b) in a file.

What is not on the clock: reading the data, the standardised copy that every peer needs (ours needs none), imports,
a first solve of a tiny problem (compilation), and the choice among settings: a peer is timed at its best one.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sparse_path_data import Data, Floats, Problem

Job = dict[str, Any]
Result = dict[str, Any]  # arrays for numpy.savez: w, b, seconds and what else the solver has to say


def timed(solve: Callable[[], Any], repeats: int = 1) -> tuple[Any, float]:
    """The last answer, the least seconds."""
    best, answer = np.inf, None
    for _ in range(repeats):
        started = time.perf_counter()
        answer = solve()
        best = min(best, time.perf_counter() - started)
    return answer, best


def tiny() -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    z = random.standard_normal((600, 12)).astype(np.float32)
    return z, (z[:, 0] + random.standard_normal(600) > 1).astype(np.uint8)


# --- ours ---


def our_rows(job: Job, data: Data) -> Any:
    if job["out_of_core"]:
        return data.mapped()
    if job["device"] == "cpu":
        return data.loaded()
    import torch

    return torch.from_numpy(data.loaded()).to(job["device"])


def subsets_of(order: NDArray[Any], widths: Sequence[int], found: Any, channels: int) -> Result:
    """``ridge_subsets`` of one problem and one ridge, as (1, widths, p) coefficients and (1, widths) intercepts."""
    w, b = np.zeros((1, len(widths), channels)), np.zeros((1, len(widths)))
    for i, width in enumerate(widths):
        w[0, i, order[:width]] = found.coefficient[i][0, 0]
        b[0, i] = found.intercept[0, i, 0]
    return {"w": w, "b": b}


def ours(job: Job, data: Data, problems: list[Problem]) -> Result:
    from probekit_linear import logistic_path, ridge_subsets

    shared = {"target": 1e-6, "threads": job["threads"], "device": job["device"]}
    small, labels = tiny()
    logistic_path(small, labels, lambdas=[0.1, 0.01], **shared)
    ridge_subsets(small, labels, order=np.arange(12)[None], k=[3, 12], ridges=[1e-3], **shared)
    x, y = our_rows(job, data), data.labels[[problem.concept for problem in problems]]
    weights = None
    if any(problem.fold is not None for problem in problems):
        weights = np.stack([data.weights(problem) for problem in problems])
    grid = {name: job[name] for name in ("lambdas", "ratios") if name in job}
    widths, ridges = job.get("widths", []), [job.get("ridge")]

    if job["task"] == "subsets":
        order = np.asarray(job["order"])
        found, seconds = timed(
            lambda: ridge_subsets(x, y, order=order[None], k=widths, ridges=ridges, **shared), job["repeats"]
        )
        result = subsets_of(order, widths, found, data.channels)
        return {**result, "seconds": seconds, "reads": found.reads}

    def solve() -> tuple[Any, Any, Any]:
        path = logistic_path(x, y, weights, **grid, **shared)
        if job["task"] != "recipe":
            return path, None, None
        order = np.argsort(-np.abs(path.coefficient[0, job["ranked_by"]]), kind="stable")
        return path, order, ridge_subsets(x, y, order=order[None], k=widths, ridges=ridges, **shared)

    (path, order, found), seconds = timed(solve, job["repeats"])
    result = {"w": path.coefficient, "b": path.intercept, "lambdas": path.lambdas, "claims": path.certified}
    if found is not None:
        more = subsets_of(order, widths, found, data.channels)
        result |= {"w2": more["w"], "b2": more["b"], "order": order}
    return {**result, "seconds": seconds, "reads": path.reads + (found.reads if found is not None else 0)}


def floor(job: Job, data: Data, _problems: list[Problem]) -> Result:
    """Seconds of a read of X in each direction, five columns wide, and of one float32 Gram of at most 64k rows."""
    import torch

    torch.set_num_threads(job["threads"])
    x = data.loaded()
    random = np.random.default_rng(0)
    right = random.standard_normal((data.channels, 5)).astype(np.float32)
    left = random.standard_normal((5, data.rows)).astype(np.float32)
    device = torch.device(job["device"])
    tx, tright, tleft = (torch.from_numpy(a).to(device) for a in (x, right, left))
    rows = min(data.rows, 65_536)

    def clock(solve: Callable[[], Any]) -> float:
        def synchronised() -> None:
            solve()
            if device.type == "cuda":
                torch.cuda.synchronize()

        synchronised()
        return timed(synchronised, 3)[1]

    forward = [clock(lambda: tx @ tright), clock(lambda: tright.T @ tx.T)]
    back = [clock(lambda: tleft @ tx), clock(lambda: tx.T @ tleft.T)]
    gram = {"torch": clock(lambda: tx[:rows].T @ tx[:rows])}
    if device.type == "cpu":
        forward.append(clock(lambda: x @ right))
        back.append(clock(lambda: left @ x))
        gram["numpy"] = clock(lambda: x[:rows].T @ x[:rows])
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]  # float32 in and out
        gram["torch, bf16 tiles"] = clock(lambda: tx[:rows].T @ tx[:rows])
    reads, fastest = 2 * (min(forward) + min(back)), min(gram, key=lambda name: gram[name])
    note = f"four reads {reads:.3f} s, a Gram of {rows} rows {gram[fastest]:.3f} s ({fastest})"
    return {"seconds": reads, "gram": gram[fastest], "note": note}


# --- peers ---


def steps_of(lambdas: Sequence[float]) -> Floats:
    """The grid with what adelie needs in between: no step beyond half a decade."""
    path = [lambdas[0]]
    for high, low in pairwise(lambdas):
        count = max(1, int(np.ceil(2 * np.log10(high / low) - 1e-6)))
        path += list(np.geomspace(high, low, count + 1)[1:])
    return np.array(path)


def adelie(job: Job, data: Data, problems: list[Problem]) -> Result:
    import adelie as ad

    def path(z: Any, y: Any, s: Floats, lambdas: Sequence[float], threads: int) -> tuple[Any, Floats, float]:
        steps = steps_of(lambdas)
        y32, s32 = y.astype(np.float32), (s / s.sum()).astype(np.float32)

        def solve() -> Any:
            return ad.grpnet(
                ad.matrix.dense(z, method="naive", n_threads=threads),
                ad.glm.binomial(y32, weights=s32, dtype=np.float32),
                lmda_path=steps.astype(np.float32),
                tol=1e-4,
                early_exit=False,
                progress_bar=False,
                n_threads=threads,
            )

        state, seconds = timed(solve, job["repeats"])
        w = state.betas.toarray().astype(np.float64)
        if len(w) != len(steps):
            raise RuntimeError(f"stopped after {len(w)} of {len(steps)} lambdas")
        kept = [int(np.argmin(np.abs(np.log(steps / lam)))) for lam in lambdas]
        return w[kept], np.asarray(state.intercepts, np.float64)[kept], seconds

    small, labels = tiny()
    path(np.asfortranarray(small), labels, np.ones(600), [0.1, 0.01], 1)
    copies: dict[int, Any] = {}
    answers, total, threads = [], 0.0, int(job.get("peer_threads", 0))
    for problem, lambdas in zip(problems, job["lambdas"], strict=True):
        used = data.used(problem)
        if problem.group not in copies:
            copies = {problem.group: data.standardised(problem, "F")}  # one at a time
        z, y, s = copies[problem.group], data.labels[problem.concept][used], data.weights(problem)[used]
        tried = {t: path(z, y, s, lambdas, t) for t in ([threads] if threads else sorted({1, job["threads"]}))}
        threads = min(tried, key=lambda t: tried[t][2])
        answers.append(tried[threads][:2])
        total += tried[threads][2]
    w, b = (np.stack(part) for part in zip(*answers, strict=True))
    return {"w": w, "b": b, "seconds": total, "peer_threads": threads, "note": f"timed with {threads} thread(s)"}


def liblinear_fit(z: Any, y: Any, lam: float, tol: float, scaling: float) -> tuple[Floats, float]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(
        solver="liblinear",
        l1_ratio=1.0,
        C=1 / (lam * len(y)),
        class_weight="balanced",
        intercept_scaling=scaling,
        tol=tol,
        max_iter=1000,
        random_state=0,
    ).fit(z, y)
    return model.coef_[0].astype(np.float64), float(model.intercept_[0])


def liblinear(job: Job, data: Data, problems: list[Problem]) -> Result:
    liblinear_fit(*tiny(), 0.1, 1e-4, 100)
    tol = 1e-3 if data.rows >= 200_000 else 1e-4
    w, b, each = [], [], []
    for problem, lambdas in zip(problems, job["lambdas"], strict=True):
        z, y = data.standardised(problem, "C"), data.labels[problem.concept][data.used(problem)]
        for lam in lambdas:
            (coefficient, intercept), seconds = timed(partial(liblinear_fit, z, y, lam, tol, 100), job["repeats"])
            w.append(coefficient)
            b.append(intercept)
            each.append(seconds)
    shape = (len(problems), len(job["lambdas"][0]))
    return {
        "w": np.reshape(w, (*shape, data.channels)),
        "b": np.reshape(b, shape),
        "seconds": sum(each),
        "each": np.reshape(each, shape),
    }


def skglm(job: Job, data: Data, problems: list[Problem]) -> Result:
    from skglm import SparseLogisticRegression

    def path(z: Any, y: Any, lambdas: Sequence[float]) -> tuple[Any, Any]:
        model = SparseLogisticRegression(tol=1e-4, max_iter=50, fit_intercept=True, warm_start=True)
        w, b = [], []
        for lam in lambdas:
            model.set_params(alpha=lam).fit(z, y)
            w.append(model.coef_[0].astype(np.float64))
            b.append(float(np.ravel(model.intercept_)[0]))
        return np.stack(w), np.array(b)

    small, labels = tiny()
    path(np.asfortranarray(small), labels, [0.1, 0.01])
    z, y = data.standardised(problems[0], "F"), data.labels[problems[0].concept]
    (w, b), seconds = timed(lambda: path(z, y, job["lambdas"][0]), job["repeats"])
    return {"w": w[None], "b": b[None], "seconds": seconds}


def ridge_objective(z: Any, y: Any, s: Floats, w: Floats, b: float, ridge: float) -> float:
    f = np.concatenate([z[i : i + 65_536] @ w + b for i in range(0, len(z), 65_536)])
    return float(s @ np.logaddexp(0, -(2.0 * y - 1) * f) / s.sum() + ridge / 2 * w @ w)


def lbfgs(job: Job, data: Data, problems: list[Problem]) -> Result:
    """Each width at the loosest tolerance, and the dtype, that reach the objective given (1e-6 relative) soonest."""
    from sklearn.linear_model import LogisticRegression

    LogisticRegression().fit(*tiny())
    z, y, s = data.standardised(problems[0], "C"), data.labels[0], data.weights(problems[0])
    order, ridge, total = np.asarray(job["order"]), job["ridge"], 0.0
    w, b = np.zeros((1, len(job["widths"]), data.channels)), np.zeros((1, len(job["widths"])))
    notes = []
    for i, (width, objective) in enumerate(zip(job["widths"], job["objectives"], strict=True)):
        top = order[:width]
        reached: list[tuple[float, str, Any]] = []
        for dtype in (np.float32, np.float64):
            part = np.ascontiguousarray(z[:, top], dtype)
            for tol in (1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 1e-7, 1e-8):
                model = LogisticRegression(solver="lbfgs", C=1 / (ridge * len(y)), tol=tol, max_iter=10_000)
                _, seconds = timed(partial(model.fit, part, y, sample_weight=s), job["repeats"])
                coefficient, intercept = model.coef_[0].astype(np.float64), float(model.intercept_[0])
                if ridge_objective(part, y, s, coefficient, intercept, ridge) <= objective * (1 + 1e-6):
                    reached.append((seconds, f"{width}: {part.dtype} {tol:g}", (coefficient, intercept)))
                    break
        if not reached:
            raise RuntimeError(f"no tolerance reaches the objective on {width} channels")
        seconds, note, (coefficient, intercept) = min(reached, key=lambda one: one[0])
        w[0, i, top], b[0, i] = coefficient, intercept
        notes.append(note)
        total += seconds
    return {"w": w, "b": b, "seconds": total, "note": "tolerances by channels: " + ", ".join(notes)}


def recipe(job: Job, data: Data, problems: list[Problem]) -> Result:
    """As such scripts go: liblinear at five C, a ranking by |w| of one, default L2 refits. Defaults otherwise."""
    from sklearn.linear_model import LogisticRegression

    liblinear_fit(*tiny(), 0.1, 1e-4, 1.0)
    LogisticRegression().fit(*tiny())
    z, y, lambdas, widths = data.standardised(problems[0], "C"), data.labels[0], job["lambdas"][0], job["widths"]

    def solve() -> Result:
        fits = [liblinear_fit(z, y, lam, 1e-4, 1.0) for lam in lambdas]
        order = np.argsort(-np.abs(fits[job["ranked_by"]][0]), kind="stable")
        w2, b2 = np.zeros((1, len(widths), data.channels)), np.zeros((1, len(widths)))
        for i, width in enumerate(widths):
            model = LogisticRegression(C=1 / (job["ridge"] * len(y)), class_weight="balanced", max_iter=1000)
            model.fit(z[:, order[:width]], y)
            w2[0, i, order[:width]], b2[0, i] = model.coef_[0], model.intercept_[0]
        w, b = np.stack([w for w, _ in fits]), np.array([b for _, b in fits])
        return {"w": w[None], "b": b[None], "w2": w2, "b2": b2, "order": order}

    result, seconds = timed(solve)
    return {**result, "seconds": seconds}


SOLVERS: dict[str, Callable[[Job, Data, list[Problem]], Result]] = {
    "ours": ours,
    "floor": floor,
    "adelie": adelie,
    "liblinear": liblinear,
    "skglm": skglm,
    "lbfgs": lbfgs,
    "recipe": recipe,
}


def peak_memory() -> float:
    """Of this process since it was started, in MB; getrusage would count what the parent held when it forked."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return int(found[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def run(job_file: Path) -> None:
    """What the child process does with its job."""
    job = json.loads(job_file.read_text())
    warnings.simplefilter("ignore")  # a peer that did not converge is told by its gap
    problems = [Problem(**one) for one in job["problems"]]
    result = SOLVERS[job["solver"]](job, Data(Path(job["data"])), problems)
    np.savez(job["result"], **result, rss=peak_memory())
