"""MAPIE's prediction sets from given probabilities: the oracle of coverage.py and of the tests."""

import numpy as np
from mapie.classification import SplitConformalClassifier
from mapie.conformity_scores import APSConformityScore, LACConformityScore, RAPSConformityScore
from sklearn.base import BaseEstimator, ClassifierMixin

SCORES = {"lac": LACConformityScore, "aps": APSConformityScore, "raps": RAPSConformityScore}


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
    """(quantile, sets bool [M, K]) of MAPIE's 'lac', randomised 'aps' or 'raps' from calibration and new probabilities.

    Its coins for calibration and for new images are both RandomState(seed).uniform, see `mapie_coins`. For 'raps' it holds a
    fifth of the calibration images back and chooses the penalty on them.
    """
    model = SplitConformalClassifier(
        GivenProbs(probs.shape[1]),
        confidence_level=1 - alpha,
        conformity_score=SCORES[method](),
        prefit=True,
        random_state=seed,
    )
    model.conformalize(probs, labels)
    params = {} if method == "lac" else {"include_last_label": "randomized"}
    sets = model.predict_set(new_probs, conformity_score_params=params)[1]
    return float(model._mapie_classifier.conformity_score_function_.quantiles_[0]), sets[:, :, 0]


def mapie_coins(count, seed=0):
    return np.random.RandomState(seed).uniform(size=count)  # noqa: NPY002  it is the oracle's own generator
