"""The page's prediction sets and 'unknown' beside recog's own, by Node."""

import json
import shutil
import subprocess
from importlib.resources import files

import numpy as np
import pytest
from safetensors.numpy import save

from recog.core.errors import ConfigError
from recog.evaluation.trust.conformal import SET_METHODS, ConformalSets, image_coins
from recog.evaluation.trust.unknown import (
    FEATURE_METHODS,
    UNKNOWN_METHODS,
    FeatureStatistics,
    Moments,
    UnknownRule,
    unit_rows,
)

NUM_IMAGES, NUM_CLASSES, NUM_FEATURES = 12, 7, 20
RUN = """
import { readFileSync, writeFileSync } from "node:fs";
import { coinOf, labelSet, readTensors, unknownScore } from "./trust.mjs";
const given = JSON.parse(readFileSync("given.json", "utf8"));
const file = readFileSync("features.safetensors");
const tensors = readTensors(file.buffer.slice(file.byteOffset, file.byteOffset + file.length));
const coins = given.images.map((image) => coinOf(Uint8Array.from(image)));
const sets = given.contracts.map((contract) =>
  given.probs.map((probs, i) => labelSet(probs, [contract.class_names[given.preds[i]]], coins[i], contract)));
const scores = given.rules.map((rule) =>
  given.logits.map((logits, i) => unknownScore(logits, Float32Array.from(given.features[i]), rule, tensors)));
writeFileSync("found.json", JSON.stringify({ coins, sets, scores }));
"""


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (NUM_IMAGES, NUM_CLASSES)).astype(np.float32)
    powers = np.exp(logits.astype(np.float64))
    return {
        "images": rng.integers(0, 256, (NUM_IMAGES, 4, 5, 3), dtype=np.uint8),
        "logits": logits,
        "probs": powers / powers.sum(axis=1, keepdims=True),
        "features": rng.normal(1, 1, (NUM_IMAGES, NUM_FEATURES + 5)).astype(np.float32),  # of two layers
        "training": rng.normal(1, 1, (60, NUM_FEATURES)).astype(np.float32),
    }


def rule_of(method):
    needs = {"num_neighbours": 3} if method == "knn" else {"weight": 0.7}
    facts = {"threshold": 0.5, "false_alarm_rate": 0.05, "num_images": 9, "data": "val", "reason": "by hand"}
    return UnknownRule(method=method, **facts, **(needs if method in FEATURE_METHODS else {}))


def sets_of(method, **changes):
    facts = {"alpha": 0.1, "quantile": 0.8, "num_images": 9, "data": "val", "penalty": 0.0, "free_classes": 0} | changes
    return ConformalSets(method=method, **facts)


ALL_SETS = [
    *(sets_of(method) for method in SET_METHODS),
    sets_of("raps", penalty=0.05, free_classes=2),
    sets_of("lac", quantile=0.01),  # empty for most: the most probable class
    sets_of("lac", quantile=None),  # every class
    sets_of("aps", class_quantiles=(0.2, 0.9, None, 0.5, 0.7, 0.1, 0.8)),
]


@pytest.fixture(scope="module")
def by_node(drawn, tmp_path_factory):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js")
    folder = tmp_path_factory.mktemp("trust")
    (folder / "trust.mjs").write_bytes((files("recog.deployment") / "programs" / "trust.mjs").read_bytes())
    (folder / "run.mjs").write_text(RUN)
    (folder / "features.safetensors").write_bytes(save(statistics_of(drawn).to_tensors()))
    names = [f"class {k}" for k in range(NUM_CLASSES)]
    contracts = [{"sets": s.to_dict(), "class_names": names, "thresholds": []} for s in ALL_SETS]
    contracts.append(contracts[4] | {"thresholds": [0.5] * NUM_CLASSES})
    given = {
        **{name: drawn[name].tolist() for name in ("logits", "probs", "features")},
        "images": drawn["images"].reshape(NUM_IMAGES, -1).tolist(),
        "preds": [(k + 1) % NUM_CLASSES for k in drawn["probs"].argmax(axis=1).tolist()],
        "contracts": contracts,
        "rules": [rule_of(method).to_dict() for method in UNKNOWN_METHODS],
    }
    (folder / "given.json").write_text(json.dumps(given))
    subprocess.run([node, "run.mjs"], cwd=folder, check=True)
    return json.loads((folder / "found.json").read_text())


def statistics_of(drawn):
    training = drawn["training"]
    white = Moments.of(training, np.arange(60) % NUM_CLASSES).statistics()
    return FeatureStatistics(
        bank=unit_rows(training).astype(np.float16),
        unit_whitening=white.unit_whitening,
        unit_centres=white.unit_centres,
        view_scale=np.full((1, NUM_FEATURES), 1.5, np.float32),
        view_shift=np.full((1, NUM_FEATURES), -0.25, np.float32),
    )


def test_coins_are_those_of_the_pixels(by_node, drawn):
    assert by_node["coins"] == image_coins(drawn["images"]).tolist()


def test_prediction_sets(by_node, drawn):
    order = np.argsort(-drawn["probs"], axis=1, kind="stable")
    for sets, found in zip(ALL_SETS, by_node["sets"], strict=False):
        inside = sets.sets(drawn["probs"], image_coins(drawn["images"]))
        assert found == [[f"class {k}" for k in order[i] if inside[i, k]] for i in range(NUM_IMAGES)], sets


def test_what_a_threshold_predicts_is_in_the_set(by_node, drawn):
    """Sets of the most probable class alone, beside the class after it that was predicted: both, the most probable first."""
    best = drawn["probs"].argmax(axis=1)
    expected = [{f"class {k}", f"class {(k + 1) % NUM_CLASSES}"} for k in best]
    assert [set(found) for found in by_node["sets"][-1]] == expected
    assert [found[0] for found in by_node["sets"][-1]] == [f"class {k}" for k in best]


@pytest.mark.parametrize("method", UNKNOWN_METHODS)
def test_scores_of_unknown(by_node, drawn, method):
    """To the rounding of float32, in which recog holds features at length 1."""
    scores = rule_of(method).scores(drawn["logits"], drawn["features"], statistics_of(drawn))
    np.testing.assert_allclose(by_node["scores"][UNKNOWN_METHODS.index(method)], scores, rtol=1e-5)


def test_every_rule_that_recog_knows_is_tested():
    with pytest.raises(ConfigError, match="expected one of"):
        rule_of("another")
    assert {sets.method for sets in ALL_SETS} == set(SET_METHODS)
