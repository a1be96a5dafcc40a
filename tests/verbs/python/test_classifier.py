"""scikit-learn's contract, on small images."""

import json
import pickle  # noqa: TID251

import numpy as np
import pytest
from containers import labelled_pngs, write_folder
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import estimator_checks_generator

import recog
from recog.core.errors import BadImage, ConfigError, DataError
from recog.recipes.config import OPTIONS
from recog.verbs.python.classifier import ImageClassifier

LEVELS = np.random.default_rng(0).integers(0, 60, (60, 12, 12)).astype(np.uint8)
PLACES = np.arange(60) % 3
for image, place in zip(LEVELS, PLACES, strict=True):
    image[4 * place : 4 * place + 3] += 150
NAMES = np.array(["b10", "b9", "a"])[PLACES]  # as text a, b10, b9


def small(**options):
    options = {"recipe": "scratch", "epochs": 8, "batch_size": 8, "threads": 1, **options}
    return ImageClassifier(settings={"reference": "none"}, **options)


@pytest.fixture(scope="module")
def fitted():
    return small().fit(LEVELS, NAMES)


ASKED = (  # of scikit-learn's checks, those that need no data or none that are images
    *("check_estimator_cloneable", "check_estimator_tags_renamed", "check_valid_tag_types", "check_estimator_repr"),
    *("check_no_attributes_set_in_init", "check_do_not_raise_errors_in_init_or_set_params", "check_mixin_order"),
    *("check_parameters_default_constructible", "check_get_params_invariance", "check_set_params"),
)
TABLES = "fits or predicts a table of floats [N, D], which are no images"
NOT_ASKED = {  # the others, with the reason
    "check_array_api_input": "images become 8-bit arrays of NumPy",
    "check_classifiers_one_label": "one class is refused: there is nothing to learn",
    "check_classifiers_one_label_sample_weights": "one class is refused; there are no sample weights",
    "check_classifiers_regression_target": "each number is a class of its own",
    "check_complex_data": TABLES,
    "check_decision_proba_consistency": "there is no decision_function",
    "check_dtype_object": TABLES,
    "check_estimator_sparse_array": "images are not sparse",
    "check_estimator_sparse_matrix": "images are not sparse",
    "check_estimator_sparse_tag": "images are not sparse",
    "check_estimators_partial_fit_n_features": "there is no partial_fit, and images have no number of features",
    "check_n_features_in": "images have no number of features",
    "check_n_features_in_after_fitting": "images have no number of features",
    "check_non_transformer_estimators_n_iter": "the number of epochs is in report_.training",
    "check_positive_only_tag_during_fit": TABLES,
    "check_requires_y_none": "fit has no default for y",
    **dict.fromkeys(
        (
            *("check_classifier_data_not_an_array", "check_classifiers_classes", "check_classifiers_train"),
            *("check_dict_unchanged", "check_dont_overwrite_parameters", "check_estimators_dtypes"),
            *("check_estimators_empty_data_messages", "check_estimators_fit_returns_self", "check_estimators_nan_inf"),
            *("check_estimators_overwrite_params", "check_estimators_pickle", "check_estimators_unfitted"),
            *("check_f_contiguous_array_estimator", "check_fit1d", "check_fit2d_1feature", "check_fit2d_1sample"),
            *("check_fit2d_predict1d", "check_fit_check_is_fitted", "check_fit_idempotent", "check_fit_score_takes_y"),
            *("check_methods_sample_order_invariance", "check_methods_subset_invariance", "check_pipeline_consistency"),
            *("check_readonly_memmap_input", "check_supervised_y_2d", "check_supervised_y_no_nan"),
        ),
        TABLES,
    ),
}


class ForTables(ImageClassifier):
    """As scikit-learn would list all of its checks."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


def test_the_checks_of_scikit_learn_that_suit_images():
    checks = {check.func.__name__: check for _, check in estimator_checks_generator(ForTables())}
    assert set(checks) - set(ASKED) <= set(NOT_ASKED), "scikit-learn's checks have changed: decide which suit images"
    for name in ASKED:
        checks[name](ImageClassifier())


def test_parameters(fitted):
    assert fitted.get_params()["epochs"] == 8
    copy = clone(fitted).set_params(epochs=1, seed=3)
    assert (copy.epochs, copy.seed, copy.recipe, hasattr(copy, "classes_")) == (1, 3, "scratch", False)
    assert set(copy.get_params()) - {"settings", "verbose"} <= set(OPTIONS)


def test_it_predicts_its_classes(fitted):
    assert fitted.classes_.tolist() == ["a", "b10", "b9"]
    assert fitted.fit(LEVELS, NAMES) is fitted
    assert fitted.score(LEVELS, NAMES) > 0.9
    probs = fitted.predict_proba(LEVELS[:5])
    assert probs.shape == (5, 3)
    assert np.allclose(probs.sum(axis=1), 1)
    assert fitted.classes_[probs.argmax(axis=1)].tolist() == fitted.predict(list(LEVELS[:5])).tolist()
    assert fitted.predict(LEVELS[:0]).shape == (0,)
    assert np.array_equal(fitted.predict_proba(LEVELS[:5] / 255), probs)
    assert fitted.report_.data.split == "val"


def test_a_pickle_predicts_the_same(fitted, tmp_path):
    before = fitted.predict_proba(LEVELS[:9])
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(LEVELS[:9]), before)
    clf = recog.load(fitted.save(tmp_path / "bundle"))
    assert np.array_equal(clf.predict_proba(list(LEVELS[:9])), before)
    with pytest.raises(DataError, match="exists already"):
        fitted.save(tmp_path / "bundle")


def test_numbers_are_classes_in_their_order():
    fitted = small(seed=1).fit(LEVELS, np.array([10, 9, 100])[PLACES])
    assert fitted.classes_.tolist() == [9, 10, 100]
    assert fitted.predict(LEVELS[:3]).tolist() == [10, 9, 100]


@pytest.mark.slow
def test_cross_validation_and_grid_search_of_files(tmp_path):
    folder = write_folder(labelled_pngs(20), tmp_path / "photos")
    files = sorted(folder.rglob("*.png"))
    classes = [file.parent.name for file in files]
    scores = cross_val_score(small(), files, classes, cv=3)
    assert scores.shape == (3,)
    assert scores.mean() > 0.6
    search = GridSearchCV(small(), {"epochs": [1, 2]}, cv=2).fit(files, classes)
    assert search.best_params_["epochs"] in (1, 2)


def test_before_it_is_fitted():
    with pytest.raises(NotFittedError):
        small().predict(LEVELS[:1])


@pytest.mark.parametrize(
    ("options", "images", "classes", "error", "says"),
    [
        ({"lr": "fast"}, LEVELS, NAMES, ConfigError, "^lr is 'fast'; it must be a number"),
        ({}, LEVELS, np.eye(3)[PLACES], DataError, r"y has shape \(60, 3\); expected one class per image"),
        ({}, LEVELS, NAMES[:9], DataError, "there are 60 images and 9 labels"),
        ({}, LEVELS.reshape(60, -1), NAMES, DataError, r"shape \(144,\).*reshape\(-1, H, W\)"),
        ({}, LEVELS, ["one"] * 60, DataError, r"has one class only \('one'\)"),
    ],
)
def test_what_is_refused(options, images, classes, error, says):
    with pytest.raises(error, match=says):
        small().set_params(**options).fit(images, classes)


def test_a_file_that_is_no_image(fitted, tmp_path):
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(BadImage, match="a.jpg"):
        fitted.predict([tmp_path / "a.jpg"])


@pytest.mark.parametrize("positive", [None, 0])
def test_a_threshold_of_two_classes_is_what_predict_decides_by(positive):
    images, labels = LEVELS[PLACES < 2], PLACES[PLACES < 2]
    clf = small(threshold="cost=9:1", positive=positive).fit(images, labels)
    rule = json.loads(clf.bundle_["calibration.json"])["decision"]
    assert (rule["aim"], rule["positive"]) == ("cost=9:1", 1 if positive is None else positive)
    positive_probs = clf.predict_proba(images)[:, rule["positive"]]
    assert np.array_equal(clf.predict(images) == rule["positive"], positive_probs > rule["threshold"])
    with pytest.raises(ConfigError, match=r"^threshold is 'f2'"):
        small(threshold="f2").fit(images, labels)
