"""MAPIE's prediction sets from given probabilities: the oracle of coverage.py and of the tests."""

import numpy as np
from mapie.classification import SplitConformalClassifier
from mapie.conformity_scores import APSConformityScore, LACConformityScore, RAPSConformityScore
from sklearn.base import BaseEstimator, ClassifierMixin

SCORES = {"lac": LACConformityScore, "aps": APSConformityScore}


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


def mapie_raps(probs, labels, new_probs, *, alpha, penalty, free_classes, seed=0):
    """As `mapie_sets` for 'raps', with the penalty given, where MAPIE would choose it on a fifth of the calibration images."""
    score = RAPSConformityScore()
    score.set_external_attributes(classes=np.arange(probs.shape[1]), random_state=seed)
    score.k_star, score.lambda_star = np.array([free_classes]), np.array([penalty])
    levels = np.array([alpha])
    plain = APSConformityScore.get_conformity_scores(score, labels, probs, y_enc=labels)
    scores = score._regularize_conformity_score(score.k_star, score.lambda_star, plain, score.cutoff)
    score.quantiles_ = APSConformityScore.get_conformity_score_quantiles(score, scores, levels, cv="prefit")
    sets = score.get_prediction_sets(
        score.get_predictions(None, levels, new_probs, None), scores, levels, "prefit", include_last_label="randomized"
    )
    return float(score.quantiles_[0]), sets[:, :, 0]
