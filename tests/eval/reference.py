"""The measures of `cutout eval` as other people's code computes them; nothing of the Rust code went in.

- MAE, F, S, E and weighted F: PySODMetrics.
- Gradient and connectivity: mmagic (OpenMMLab), whose two files are read out of the installed package without
  importing it, as that needs PyTorch. Their `process` runs as it is; what it fetches from a data loader is handed
  to it. No pixel is left out: the trimap says "unknown" everywhere.
- SAD and MSE: their one-line definitions, on the whole picture.
- Boundary IoU: written here from the paper (Cheng et al., CVPR 2021, section 4 and the pseudo code of its
  appendix), as no package on PyPI has it.

Each function takes the matte and the mask as uint8 arrays and returns floats.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import types
import warnings
from pathlib import Path

import cv2
import numpy as np

warnings.simplefilter("ignore")
import py_sod_metrics as sod  # noqa: E402  (it warns about what it will drop)

BOUNDARY_SHARE = 0.02
"""Width of the band along the outline, as a share of the picture's diagonal: the paper's."""


def _mmagic() -> tuple[types.ModuleType, types.ModuleType]:
    package = Path(str(importlib.metadata.distribution("mmagic").locate_file("mmagic")))

    def stand_in(name: str, **members: object) -> None:
        module = types.ModuleType(name)
        module.__dict__.update(members)
        module.__path__ = []  # its submodules are looked for among the stand-ins
        sys.modules[name] = module

    def read(name: str, path: str) -> types.ModuleType:
        spec = importlib.util.spec_from_file_location(name, package / path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    class Registry:
        def register_module(self):
            return lambda registered: registered

    class Metric:
        def __init__(self) -> None:
            self.results: list[dict[str, float]] = []

    for name in ("torch", "torch.utils", "torch.utils.data", "mmengine", "mmagic", "mmagic.evaluation"):
        stand_in(name)
    stand_in("torch.nn", Module=object)
    stand_in("torch.utils.data.dataloader", DataLoader=object)
    stand_in("mmengine.model", is_model_wrapper=lambda _: False)
    stand_in("mmagic.registry", METRICS=Registry())
    stand_in("mmagic.evaluation.metrics")
    stand_in("mmagic.evaluation.metrics.base_sample_wise_metric", BaseSampleWiseMetric=Metric)
    stand_in(
        "mmagic.evaluation.metrics.metrics_utils",
        _fetch_data_and_check=lambda sample: sample,
        average=lambda *_: None,
    )
    functions = read("mmagic.evaluation.functional", "evaluation/functional/gaussian_funcs.py")
    assert functions.gauss_gradient
    metrics = "mmagic.evaluation.metrics"
    return (
        read(f"{metrics}.gradient_error", "evaluation/metrics/gradient_error.py"),
        read(f"{metrics}.connectivity_error", "evaluation/metrics/connectivity_error.py"),
    )


_GRADIENT, _CONNECTIVITY = _mmagic()


class Salient:
    """PySODMetrics over one pair or many."""

    def __init__(self) -> None:
        self.measures = {
            "mae": sod.MAE(),
            "f": sod.Fmeasure(),
            "s": sod.Smeasure(),
            "e": sod.Emeasure(),
            "weighted_f": sod.WeightedFmeasure(),
        }

    def step(self, matte: np.ndarray, mask: np.ndarray) -> None:
        for measure in self.measures.values():
            measure.step(matte, mask)

    def results(self) -> dict[str, float]:
        found = {name: measure.get_results() for name, measure in self.measures.items()}
        return {
            "mae": float(found["mae"]["mae"]),
            "max_f": float(found["f"]["fm"]["curve"].max()),
            "adaptive_f": float(found["f"]["fm"]["adp"]),
            "weighted_f": float(found["weighted_f"]["wfm"]),
            "s": float(found["s"]["sm"]),
            "max_e": float(found["e"]["em"]["curve"].max()),
            "adaptive_e": float(found["e"]["em"]["adp"]),
        }


class Amended(sod.Smeasure):
    """Where the subject's centre of gravity lies in the last row or column, PySODMetrics takes means of rectangles
    without pixels, and answers NaN. Here they count for nothing."""

    def ssim(self, pred: np.ndarray, gt: np.ndarray) -> float:
        return super().ssim(pred, gt) if pred.size else 0.0


def amended_s(matte: np.ndarray, mask: np.ndarray) -> float:
    measure = Amended()
    measure.step(matte, mask)
    return float(measure.get_results()["sm"])


def boundary_iou(matte: np.ndarray, mask: np.ndarray) -> float:
    height, width = mask.shape
    distance = max(1, round(BOUNDARY_SHARE * float(np.hypot(height, width))))

    def band(picture: np.ndarray) -> np.ndarray:
        # PySODMetrics's rule for what belongs to a mask; outside the picture nothing does.
        inside = (picture > 128).astype(np.uint8)
        padded = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance)[1:-1, 1:-1]
        return (inside - eroded).astype(bool)

    ours, theirs = band(matte), band(mask)
    union = np.count_nonzero(ours | theirs)
    return np.count_nonzero(ours & theirs) / union if union else float("nan")


def matting(matte: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    alpha, truth = matte / 255.0, mask / 255.0
    unknown = np.full(mask.shape, 128)
    gradient, connectivity = _GRADIENT.GradientError(), _CONNECTIVITY.ConnectivityError()
    gradient.process([], [(alpha, truth, unknown)])
    connectivity.process([], [(alpha, truth, unknown)])
    return {
        "sad": float(np.abs(alpha - truth).sum() / 1000),
        "mse": float(((alpha - truth) ** 2).mean()),
        "gradient": float(gradient.results[0]["grad_err"]),
        "connectivity": float(connectivity.results[0]["conn_err"]),
    }


def measures(matte: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    salient = Salient()
    salient.step(matte, mask)
    return {
        **salient.results(),
        "boundary_iou": boundary_iou(matte, mask),
        **matting(matte, mask),
    }
