"""Kind 50: whatever value a bundle's files hold, reading and using them succeeds or ends in one BundleError, soon."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import time
import warnings
from collections import Counter
from pathlib import Path

import bad_json
import ledger
import numpy as np
import onnx
import pytest
from rich.console import Console

import recog
from recog.bundle.manifest import read_manifest
from recog.bundle.reference import read_features, read_reference
from recog.bundle.seal import check_facts, read_network_config
from recog.core.errors import BundleError
from recog.core.records import decode_object
from recog.evaluation.results.read import parse_report
from recog.evaluation.trust.calibration import Calibration
from recog.evaluation.trust.unknown import FeatureStatistics
from recog.report.brief import brief_lines
from recog.report.table import print_report
from recog.runs.splits import read_seen

GOLDEN = Path(__file__).parents[1] / "golden"
TRUST, LABELS = GOLDEN / "digits-format-1-trust", GOLDEN / "digits-labels-format-1"
BUNDLES = (TRUST, LABELS)
MAX_S = 2.0  # of processor time for one file
FEW = 6  # changes of each value in the quick tests; the others are in the slow ones

SPLITS = {
    "seed": 0,
    "class_names": ["a", "b"],
    "hash_of": "file bytes",
    "splits": {
        "train": [{"name": "a.png", "class": "a", "sha256": "0" * 64}],
        "val": [{"name": "b.png", "classes": ["a", "b"], "sha256": "1" * 64}],
    },
    "excluded": [{"name": "c.png", "reason": "it is empty"}],
}


def verdict_of(case, use):
    """'accepted' or 'refused'; an AssertionError where anything else comes of `use(text of the case)`."""
    started = time.process_time()
    try:
        with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
            warnings.simplefilter("error")
            use(case.text)
        message = ""
    except BundleError as error:
        message = str(error)
    except Exception as error:
        raise AssertionError(f"{case}: {type(error).__name__}: {str(error)[:200]}") from error
    assert time.process_time() - started < MAX_S, case
    assert "\n" not in message, case
    assert len(message) < 1000, case
    return "refused" if message else "accepted"


def verdicts_of(cases, use):
    return Counter(verdict_of(case, use) for case in cases)


def resealed(text):
    """`text` of recog.json with the digest that its content has, as a forger would write it."""
    try:
        table = json.loads(text)
        digest = table.pop("digest")
        assert len(digest) == 64
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError, AssertionError):
        return text
    canonical = json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.replace(digest, hashlib.sha256(canonical.encode(errors="backslashreplace")).hexdigest())


def write(path, text):
    path.write_bytes(text.encode(errors="surrogatepass"))


def use_calibration(bundle):
    rng = np.random.default_rng(0)
    num_classes = len(read_manifest(bundle).class_names)
    logits, features = rng.normal(size=(4, num_classes)).astype(np.float32), rng.normal(size=(4, 64)).astype(np.float32)
    statistics = None
    if (bundle / "features.safetensors").exists():
        statistics = FeatureStatistics.from_tensors(read_features(bundle))

    def use(text):
        found = Calibration.from_dict(decode_object(text, where="calibration.json"))
        found.check_classes(num_classes)
        probs = found.apply(logits)
        assert probs.min() >= 0
        assert probs.max() <= 1
        found.preds(probs)
        if found.sets is not None:
            assert found.sets.sets(probs, np.full(4, 0.5)).any(axis=1).all()
        if found.unknown is not None and found.unknown.threshold is not None:
            scores = found.unknown.scores(logits, features, statistics)
            assert np.isfinite(scores).all()
            found.unknown.is_unknown(scores)

    return use


def use_manifest(bundle, folder):
    config = read_network_config(bundle)

    def use(text):
        write(folder / "recog.json", resealed(text))
        manifest = read_manifest(folder)
        check_facts(manifest, config)
        assert manifest.preprocess(np.zeros((20, 30, 1), np.uint8)).shape == (8, 8, 1)

    return use


def use_config(bundle, folder):
    manifest = read_manifest(bundle)

    def use(text):
        write(folder / "config.json", text)
        check_facts(manifest, read_network_config(folder))

    return use


def use_report(text):
    report = parse_report(decode_object(text, where="report.json"))
    brief_lines(report)
    print_report(report, Console(file=io.StringIO()))


def use_splits(folder):
    def use(text):
        write(folder / "splits.json", text)
        seen = read_seen(folder)
        seen.count("train", ["0" * 64])
        seen.shaped_the_model("1" * 64)

    return use


def safetensors(path):
    """(header as JSON text, the bytes behind it)."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return data[8 : 8 + length].decode(), data[8 + length :]


def use_tensors(path, read, rest):
    def use(header):
        text = header.encode(errors="surrogatepass")
        path.write_bytes(len(text).to_bytes(8, "little") + text + rest)
        read(path.parent)

    return use


def use_reference(folder):
    """As `recog verify` does, but for the network."""
    reference = read_reference(folder)
    manifest = read_manifest(TRUST)
    for image in reference.images:
        with contextlib.suppress(recog.core.errors.BadImage):
            manifest.preprocess.read(image)


def use_features(folder):
    statistics = FeatureStatistics.from_tensors(read_features(folder))
    rule = Calibration.from_dict(json.loads((TRUST / "calibration.json").read_bytes())).unknown
    rule.scores(np.zeros((2, 10), np.float32), np.ones((2, 64), np.float32), statistics)


def json_files(folder, num_changes):
    """(file, cases, what uses one) for each file that a bundle or its run has."""
    for bundle in BUNDLES:
        for name, use in (
            ("calibration.json", use_calibration(bundle)),
            ("recog.json", use_manifest(bundle, folder)),
            ("config.json", use_config(bundle, folder)),
            ("report.json", use_report),
        ):
            few = {"num_changes": num_changes}
            if name == "report.json":  # its 1,000 values repeat for each class, and reading it takes 20 ms
                few = {"num_changes": 1, "every": 3} if num_changes <= FEW else {"num_changes": 10}
            yield f"{bundle.name}/{name}", bad_json.cases((bundle / name).read_text(), **few), use
    yield "splits.json", bad_json.cases(json.dumps(SPLITS), num_changes=num_changes), use_splits(folder)
    for name, read in (("reference.safetensors", use_reference), ("features.safetensors", use_features)):
        header, rest = safetensors(TRUST / name)
        yield name, bad_json.cases(header, num_changes=num_changes), use_tensors(folder / name, read, rest)


FILES = [
    *(
        f"{bundle.name}/{name}"
        for bundle in BUNDLES
        for name in ("calibration.json", "recog.json", "config.json", "report.json")
    ),
    "splits.json",
    "reference.safetensors",
    "features.safetensors",
]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("num_changes", [FEW, pytest.param(len(bad_json.CHANGES), marks=pytest.mark.slow)])
def test_a_changed_value_is_used_or_refused(file, num_changes, tmp_path):
    cases, use = next((cases, use) for name, cases, use in json_files(tmp_path, num_changes) if name == file)
    verdicts = verdicts_of(cases, use)
    assert verdicts["refused"] > verdicts["accepted"] > 0


@pytest.mark.parametrize("file", FILES)
def test_the_unchanged_file_is_used(file, tmp_path):
    use = next(use for name, _, use in json_files(tmp_path, FEW) if name == file)
    bundle, _, name = file.rpartition("/")
    if file == "splits.json":
        use(json.dumps(SPLITS))
    elif name.endswith(".safetensors"):
        use(safetensors(TRUST / name)[0])
    else:
        use((GOLDEN / bundle / name).read_text())


def class_names_in(path, text):
    """The golden network with other class names in its metadata."""
    model = onnx.load(TRUST / "model.onnx")
    del model.metadata_props[:]
    model.metadata_props.add(key="class_names", value=text)
    path.write_bytes(model.SerializeToString())


def answers(folder):
    """All that `load`, `predict --sets --reject` and `verify` read and compute."""
    predictor = recog.load(folder)
    images = list(np.random.default_rng(0).integers(0, 256, (3, 10, 12), dtype=np.uint8))
    for prediction in predictor.predict(images, reject=predictor.can_reject):
        assert np.isfinite(prediction.probs).all()
        assert isinstance(prediction.labels, tuple)
        assert prediction.label_set is None or prediction.label_set
    recog.verify(folder)


WHOLE = [  # (bundle, file, one of so many values is changed)
    *((bundle, name, 1) for bundle in BUNDLES for name in ("calibration.json", "recog.json", "config.json")),
    *((bundle, "report.json", 20) for bundle in BUNDLES),  # verify hashes it, nothing reads it
    (TRUST, "reference.safetensors", 1),
    (TRUST, "features.safetensors", 1),
    (TRUST, "model.safetensors", 20),  # as report.json
    (TRUST, "model.onnx", 1),
]


@pytest.mark.parametrize(
    ("share", "num_changes"),
    [(10, 1), pytest.param(1, 10, marks=pytest.mark.slow)],
    ids=["few", "many"],
)
@pytest.mark.parametrize(("source", "name", "every"), WHOLE, ids=lambda value: getattr(value, "name", str(value)))
def test_a_resealed_bundle_with_a_changed_value_answers_or_is_refused(
    source, name, every, share, num_changes, tmp_path, reseal
):
    """Through the public functions; a forger has sealed the bundle again."""
    bundle = shutil.copytree(source, tmp_path / "bundle")
    text = (source / name).read_text() if name.endswith(".json") else json.dumps(list(map(str, range(10))))
    rest = b""
    if name.endswith(".safetensors"):
        text, rest = safetensors(source / name)

    def use(text):
        if name == "recog.json":
            write(bundle / name, resealed(text))
        else:
            if name == "model.onnx":
                class_names_in(bundle / name, text)
            elif rest:
                use_tensors(bundle / name, lambda folder: None, rest)(text)
            else:
                write(bundle / name, text)
            shutil.copy(source / "recog.json", bundle)
            reseal(bundle)
        answers(bundle)

    use(text)
    verdicts_of(bad_json.cases(text, num_changes=num_changes, every=every * share), use)


def test_ledger(tmp_path, capsys):
    """`make ledger` prints it."""
    counts = [verdicts_of(cases, use) for _, cases, use in json_files(tmp_path, 1)]
    with capsys.disabled():
        print("", *ledger.lines({50: sum(counts, Counter())}), sep="\n")
