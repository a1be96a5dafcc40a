from __future__ import annotations

import pytest
from small_studies import FACTS, SPACE

from recog.recipes.config import DataConfig, TrainConfig
from recog.tuning.search import Rules, Search
from recog.tuning.storage import open_storage, open_study, quiet_optuna


@pytest.fixture(scope="session")
def digits():
    """The data of the studies."""
    from recog.recipes.prepare import prepare_data
    from recog.training.distributed import World

    return prepare_data(TrainConfig(data=DataConfig(source="digits")), world=World())


@pytest.fixture
def study_of(tmp_path, digits):
    """A function that opens the study in a journal and returns its Search, with `runner` and changed rules."""

    def make(runner, *, space=SPACE, path=tmp_path / "journal.log", facts=FACTS, **changes):
        epochs = changes.pop("epochs", 9)
        config = TrainConfig(recipe="scratch")
        rules = Rules(
            **{"config": config, "space": space, "default_recipe": "scratch", "num_trials": 12, "max_epochs": epochs}
            | {"longest": epochs}
            | changes
        )
        study = open_study(open_storage(str(path)), "s", facts, where=str(path))
        search = Search(study, runner, rules, digits)
        search.queue_default()
        return study, search

    with quiet_optuna():
        yield make
