"""MAPIE on given probabilities: the oracle of prediction sets, for tests and for benchmarks/coverage.py."""

import numpy as np
from mapie.classification import SplitConformalClassifier
from mapie.conformity_scores import APSConformityScore, LACConformityScore
from sklearn.base import BaseEstimator, ClassifierMixin


class GivenProbs(ClassifierMixin, BaseEstimator):
    """A fitted scikit-learn classifier whose features are its probabilities."""

    def __init__(self, num_classes=2):
        self.num_classes = num_classes
        self.classes_ = np.arange(num_classes)
        self.is_fitted_ = True

    def fit(self, X, y):  # noqa: N803  scikit-learn's names
        return self

    def predict_proba(self, X):  # noqa: N803
        return X

    def predict(self, X):  # noqa: N803
        return X.argmax(axis=1)


def mapie_sets(method, probs, labels, new_probs, *, alpha, seed=0):
    """(quantile, sets bool [M, K]) of MAPIE's 'lac' or randomised 'aps' from calibration and new probabilities.

    Its coins for calibration and for new images are both RandomState(seed).uniform, see `mapie_coins`.
    """
    score = {"lac": LACConformityScore, "aps": APSConformityScore}[method]()
    estimator = GivenProbs(probs.shape[1])
    model = SplitConformalClassifier(
        estimator, confidence_level=1 - alpha, conformity_score=score, prefit=True, random_state=seed
    )
    model.conformalize(probs, labels)
    params = {"include_last_label": "randomized"} if method == "aps" else {}
    sets = model.predict_set(new_probs, conformity_score_params=params)[1]
    return float(model._mapie_classifier.conformity_score_function_.quantiles_[0]), sets[:, :, 0]


def mapie_coins(count, seed=0):
    return np.random.RandomState(seed).uniform(size=count)  # noqa: NPY002  it is the oracle's own generator
