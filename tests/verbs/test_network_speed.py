from dataclasses import replace

import pytest

from recog.core.errors import ConfigError
from recog.models.listing import list_networks
from recog.verbs.network_speed import measured


def test_milliseconds_per_image_and_none_for_what_cannot_be_trained():
    (first,) = list_networks("test_resnet")
    found, failed = measured([first, replace(first, name="absent")], num_threads=1)
    assert found.ms is not None
    assert 0 < found.ms < 1000
    assert failed.ms is None


def test_too_many_networks_are_refused():
    (first,) = list_networks("test_resnet")
    with pytest.raises(ConfigError, match="takes up to 50 networks; the pattern matches 51"):
        list(measured([first] * 51, num_threads=1))
