"""
Time how others score a LightGBM model: lleaves, ONNX Runtime, treelite.

    uv sync --project bench/peers --group score
    creditstream bench score --others "bench/peers/.venv/bin/python bench/peers/score.py"

Given a model's text, a .npy file of float32 rows and batch sizes, it prints as JSON: microseconds a
row of each way by batch size, its version with how long it took to make the model ready, and how
far its probabilities are from LightGBM's. One thread each, as each one's documentation advises.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightgbm
import numpy as np

ROUNDS, ROUND_ROWS = 3, 2_048
Score = Callable[[Any], Any]


def by_lleaves(model: Path, folder: Path) -> Score:
    """Compile by LLVM."""
    import lleaves

    compiled = lleaves.Model(model_file=str(model))
    compiled.compile(cache=str(folder / "lleaves.o"))
    return lambda rows: compiled.predict(rows, n_jobs=1)


def by_onnx(model: Path, _: Path) -> Score:
    """Convert to ONNX, whose sums are of float32."""
    import onnxruntime
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    booster = lightgbm.Booster(model_file=str(model))
    kind = FloatTensorType([None, booster.num_feature()])
    converted = convert_lightgbm(booster, initial_types=[("rows", kind)], zipmap=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        converted.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda rows: session.run(["probabilities"], {"rows": rows})[0][:, 1]


def by_gtil(model: Path, _: Path) -> Score:
    """Walk by treelite's own predictor."""
    import treelite

    read = treelite.frontend.load_lightgbm_model(str(model))
    return lambda rows: treelite.gtil.predict(read, rows, nthread=1).ravel()


def by_tl2cgen(model: Path, folder: Path) -> Score:
    """Compile treelite's model by the C compiler."""
    import tl2cgen
    import treelite

    read = treelite.frontend.load_lightgbm_model(str(model))
    library = folder / "model.so"
    tl2cgen.export_lib(read, toolchain="gcc", libpath=str(library), params={"parallel_comp": 8})
    predictor = tl2cgen.Predictor(str(library), nthread=1)
    return lambda rows: predictor.predict(tl2cgen.DMatrix(rows)).ravel()


WAYS = {
    "lleaves": by_lleaves,
    "onnxruntime": by_onnx,
    "treelite": by_gtil,
    "tl2cgen": by_tl2cgen,
}


def main(model: Path, matrix: Path, sizes: list[int]) -> None:
    """Time each way that is installed and takes the model."""
    rows = np.load(matrix)
    expected = np.asarray(lightgbm.Booster(model_file=str(model)).predict(rows, num_threads=1))
    taken: dict[str, dict[int, float]] = {}
    told: dict[str, str] = {}
    for way, prepare in WAYS.items():
        with TemporaryDirectory(prefix="creditstream-peers-") as made:
            try:
                began = time.perf_counter()
                score = prepare(model, Path(made))
                ready = time.perf_counter() - began
                furthest = float(np.abs(np.asarray(score(rows)) - expected).max())
            except Exception as error:  # noqa: BLE001 - another's, which may not take this model
                told[way] = f"{type(error).__name__}: {error}".splitlines()[0]
                continue
            taken[way] = {size: timed(score, rows, size) for size in sizes}
        told[way] = f"{version(way)}, ready in {ready:.1f} s, furthest {furthest:.1e}"
    print(json.dumps({"us_a_row": taken, "told": told}))  # noqa: T201 - its report


def timed(score: Score, rows: Any, size: int) -> float:
    """Give the least of some rounds, of other rows each."""
    batches = max(1, min(ROUND_ROWS // size, 200))
    found = []
    for number in range(ROUNDS):
        first = number * batches * size
        parts = [(first + part * size) % (len(rows) - size + 1) for part in range(batches)]
        score(rows[:size])
        began = time.perf_counter()
        for part in parts:
            score(rows[part : part + size])
        found.append((time.perf_counter() - began) / (batches * size) * 1e6)
    return round(min(found), 3)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [int(size) for size in sys.argv[3].split(",")])
