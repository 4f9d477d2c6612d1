"""Training: labelled features to a release, seeded and repeatable to the byte."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.catalogue import definition as definition_called
from features.schema import FeatureSchema
from models.evaluate import cheapest_cutoff, evaluate
from models.policies import policy_text
from models.prepared import LABEL, Prepared
from models.release import FORMAT, Manifest, write_release
from scoring.booster import BoosterScorer

_REFERENCE_ROWS = 2_000


class TrainingRefused(Exception):
    """Rows cannot be trained on; says which file or part and why."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What a wrong or a late decision costs, in units of one lost good applicant."""

    false_negative: float = 10.0
    false_positive: float = 1.0
    review: float = 0.5


@dataclass(frozen=True, slots=True)
class Labelled:
    """Features float32[n, features] with labels int8[n] (1: defaulted), and the file's digest."""

    features: NDArray[np.float32]
    label: NDArray[np.int8]
    digest: str


def read_labelled(path: Path, schema: FeatureSchema, label: str) -> Labelled:
    """
    Read a labelled Parquet file that holds the schema's features by name.

    Raises TrainingRefused where a column is missing, repeated or not of numbers, or a label is
    neither 0 nor 1.
    """
    try:
        content = path.read_bytes()
        table = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read()
    except (pa.ArrowException, OSError) as error:
        msg = f"{path}: no readable Parquet file: {error}"
        raise TrainingRefused(msg) from None
    for name in (*schema.names, label):
        if (times := table.column_names.count(name)) != 1:
            msg = f"{path}: column {name!r} stands {times} times"
            raise TrainingRefused(msg)
    features = np.empty((table.num_rows, len(schema.names)), dtype=np.float32)
    for index, name in enumerate(schema.names):
        kind = table[name].type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            msg = f"{path}: column {name!r} holds {kind}, not numbers"
            raise TrainingRefused(msg)
        features[:, index] = table[name].to_numpy()
    labels = table[label].to_numpy()
    if not np.isin(labels, (0, 1)).all():
        msg = f"{path}: column {label!r} holds labels that are neither 0 nor 1"
        raise TrainingRefused(msg)
    return Labelled(features, labels.astype(np.int8), hashlib.sha256(content).hexdigest())


def train_prepared(prepared: Prepared, out: Path, seed: int = 350) -> Path:
    """
    Train a release on prepared files, of the definition that they name; give its folder.

    Raises ExampleMissing, TrainingRefused.
    """
    definition = definition_called(prepared.about.definition)
    training, calibration = (
        read_labelled(path, definition.schema, LABEL)
        for path in (prepared.training, prepared.calibration)
    )
    return train(
        training,
        calibration,
        definition.schema,
        definition.name,
        out,
        protected=definition.protected,
        seed=seed,
    )


def train(
    training: Labelled,
    calibration: Labelled,
    schema: FeatureSchema,
    definition: str,
    out: Path,
    *,
    protected: Collection[str] = (),
    costs: Costs | None = None,
    seed: int = 350,
    rounds: int = 400,
    parent: str | None = None,
) -> Path:
    """
    Train a release and write it below `out`; give its folder.

    Trees grow until a fifth of the training rows, held back by the seed, gain no more. The
    cut-off of approval is the one with the least cost on the calibration rows; an application is
    declined where declining costs less than a review, which is from 1 - review / false_positive.
    No tree splits on a feature that is `protected`; the rows hold it all the same.
    The same rows, seed and library versions give the same bytes. Raises TrainingRefused where
    rows of both labels are not in both parts.
    """
    import lightgbm

    for name, part in (("training", training), ("calibration", calibration)):
        if len(np.unique(part.label)) < 2:
            msg = f"the {name} rows do not hold both labels, 0 and 1"
            raise TrainingRefused(msg)
    costs = costs or Costs()
    held_back = np.random.default_rng(seed).random(len(training.label)) < 0.2
    if any(len(np.unique(training.label[rows])) < 2 for rows in (held_back, ~held_back)):
        msg = (
            f"{len(training.label)} training rows are too few: a fifth is held back, and it or the "
            "rest does not hold both labels"
        )
        raise TrainingRefused(msg)
    parameters = {
        "objective": "binary",
        "metric": "auc",
        "learning_rate": 0.06,
        # Eight leaves do as well as more here, and one byte then explains a tree.
        "num_leaves": 8,
        "min_data_in_leaf": 60,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "monotone_constraints": [feature.monotone for feature in schema.features],
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    names = list(schema.names)
    if protected:
        # A split that gains nothing is never made.
        parameters["feature_contri"] = [float(name not in protected) for name in names]
    fit, check = (
        lightgbm.Dataset(training.features[rows], training.label[rows], feature_name=names)
        for rows in (~held_back, held_back)
    )
    booster = lightgbm.train(
        parameters,
        fit,
        rounds,
        valid_sets=[check],
        callbacks=[lightgbm.early_stopping(40, verbose=False)],
    )
    text = booster.model_to_string(num_iteration=booster.best_iteration)
    probability = BoosterScorer(text, schema).default_probability(calibration.features)
    refer = cheapest_cutoff(
        calibration.label, probability, costs.false_negative, costs.false_positive
    )
    decline = max(refer, 1 - costs.review / costs.false_positive)
    rows = np.random.default_rng(seed).permutation(len(training.label))[:_REFERENCE_ROWS]
    manifest = Manifest(
        format=FORMAT,
        definition=definition,
        files={},
        training_data={"training": training.digest, "calibration": calibration.digest},
        metrics={"calibration": evaluate(calibration.label, probability, refer, seed)},
        parameters={
            "seed": seed,
            "trees": booster.best_iteration,
            "cost_false_negative": costs.false_negative,
            "cost_false_positive": costs.false_positive,
            "cost_review": costs.review,
        },
        libraries={name: version(name) for name in ("lightgbm", "numpy", "creditstream")},
        parent=parent,
    )
    why = (
        f"Costs: an approved default {costs.false_negative:g}, a refused good applicant",
        f"{costs.false_positive:g}, a review {costs.review:g}. `refer` made approving and not",
        "approving cheapest on the calibration rows; from `decline` on, declining, which loses",
        "1 - p good applicants, costs less than a review.",
    )
    policy = policy_text(definition, refer, decline, why)
    return write_release(out, text, schema, policy, training.features[np.sort(rows)], manifest)
