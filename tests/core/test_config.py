import math
import os
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recog.core.config import build_config, config_to_dict, did_you_mean, dump_toml, load_toml, merge, override
from recog.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Optim:
    lr: float | None = None
    nesterov: bool = False
    name: Literal["sgd", "adamw"] = "sgd"

    def __post_init__(self) -> None:
        if self.lr is not None and self.lr <= 0:
            raise ConfigError(f"optim.lr is {self.lr}; it must be above 0.")


@dataclass(frozen=True, kw_only=True)
class Settings:
    seed: int = 0
    source: str = ""
    scale: float = 1.0
    image_size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    optim: Optim = field(default_factory=Optim)


def test_fills_nested_tables_and_leaves_the_rest_at_its_default():
    built = build_config(
        Settings, {"seed": 3, "image_size": [32, 48], "mean": [0.5, 1], "optim": {"lr": 0.1, "name": "adamw"}}
    )
    assert built == Settings(seed=3, image_size=(32, 48), mean=(0.5, 1.0), optim=Optim(lr=0.1, name="adamw"))


def test_a_whole_number_is_a_float_where_a_float_is_meant():
    built = build_config(Settings, {"scale": 2, "optim": {"lr": 1}})
    assert (type(built.scale), type(built.optim.lr)) == (float, float)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"sed": 1}, "unknown setting 'sed'. Did you mean 'seed'?"),
        ({"optim": {"nesterof": True}}, "unknown setting 'optim.nesterof'. Did you mean 'optim.nesterov'?"),
        ({"optim": {"zzz": 1}}, "unknown setting 'optim.zzz'. Known: optim.lr, optim.nesterov, optim.name."),
        ({"seed": "1"}, "seed is '1'; it must be a whole number."),
        ({"seed": 1.0}, "seed is 1.0; it must be a whole number."),
        ({"seed": True}, "seed is True; it must be a whole number."),
        ({"scale": True}, "scale is True; it must be a number."),
        ({"scale": "1e-3"}, "scale is '1e-3'; it must be a number."),
        ({"source": 5}, "source is 5; it must be text."),
        ({"optim": {"nesterov": 1}}, "optim.nesterov is 1; it must be true or false."),
        ({"optim": 1}, "optim is 1; it is a group of settings: optim.lr, optim.nesterov, optim.name."),
        ({"optim": {"name": "adamv"}}, "optim.name is 'adamv'; it must be one of sgd, adamw. Did you mean 'adamw'?"),
        ({"optim": {"name": ["sgd"]}}, "optim.name is ['sgd']; it must be one of sgd, adamw."),
        ({"image_size": [32]}, "image_size has 1 values; it must have 2."),
        ({"image_size": [32, 32.5]}, "image_size[1] is 32.5; it must be a whole number."),
        ({"image_size": 3.5}, "image_size is 3.5; it must be a whole number, or a list of two."),
        ({"image_size": True}, "image_size is True; it must be a whole number, or a list of two."),
        ({"mean": 1}, "mean is 1; it must be a list."),
        ({"nesterov": True}, "unknown setting 'nesterov'. Did you mean 'optim.nesterov'?"),
        ({"optimizer": {"lr": 1}}, "unknown setting 'optimizer.lr'. Did you mean 'optim.lr'?"),
        ({"ImageSize": 32}, "unknown setting 'ImageSize'. Did you mean 'image_size'?"),
        ({"mean": [0.5, "x"]}, "mean[1] is 'x'; it must be a number."),
        ({"optim": {"lr": 0.0}}, "optim.lr is 0.0; it must be above 0."),
    ],
)
def test_wrong_settings_are_named_with_what_was_expected(table, message):
    with pytest.raises(ConfigError) as caught:
        build_config(Settings, table)
    assert message in str(caught.value)


def test_one_number_is_both_sides_of_an_image():
    assert build_config(Settings, {"image_size": 32}).image_size == (32, 32)


def test_did_you_mean_names_the_nearest_or_all_of_a_short_list():
    assert did_you_mean("resnet19", ["resnet8", "resnet18", "vit"]) == " Did you mean 'resnet18'?"
    assert did_you_mean("xyz", ["resnet8", "vit"]) == " Known: resnet8, vit."
    assert did_you_mean("xyz", [f"net{i}" for i in range(31)]) == ""


texts = st.text(st.characters(codec="utf-8"), max_size=20)
positive = st.floats(min_value=0, exclude_min=True, allow_nan=False)
configs = st.builds(
    Settings,
    seed=st.integers(0, 2**63 - 1),
    source=texts,
    scale=st.floats(allow_nan=False),
    image_size=st.none() | st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
    mean=st.none() | st.lists(st.floats(0, 1), max_size=3).map(tuple),
    optim=st.builds(Optim, lr=st.none() | positive, nesterov=st.booleans(), name=st.sampled_from(["sgd", "adamw"])),
)


@settings(deadline=None, max_examples=150)
@given(configs)
def test_a_config_written_as_toml_reads_back_equal(tmp_path_factory, config):
    path = tmp_path_factory.getbasetemp() / "round_trip.toml"
    path.write_bytes(dump_toml(config_to_dict(config)).encode())
    assert build_config(Settings, load_toml(path)) == config


def test_what_is_none_is_left_out_as_toml_has_no_null():
    table = config_to_dict(Settings())
    assert table == {"seed": 0, "source": "", "scale": 1.0, "optim": {"nesterov": False, "name": "sgd"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed = ", "run.toml is not valid TOML: "),
        (b"seed = 1\nseed = 2", "run.toml is not valid TOML: "),
        (b"source = '\xff'", "run.toml is not UTF-8 text."),
        (None, "there is no config file "),
    ],
    ids=["half a line", "a key twice", "not UTF-8", "absent"],
)
def test_a_file_that_is_no_config_is_named(tmp_path, content, message):
    path = tmp_path / "run.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_toml(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_folder_is_no_config_file(tmp_path):
    with pytest.raises(ConfigError, match="is a folder; expected a regular file"):
        load_toml(tmp_path)


@pytest.mark.parametrize(
    ("setting", "table"),
    [
        ("seed=3", {"seed": 3}),
        (" optim.lr = 0.05 ", {"optim": {"lr": 0.05}}),
        ("optim.name=adamw", {"optim": {"name": "adamw"}}),  # a bare word
        ("optim.name='adamw'", {"optim": {"name": "adamw"}}),
        ("optim.nesterov=true", {"optim": {"nesterov": True}}),
        ("image_size=[32, 48]", {"image_size": [32, 48]}),
        ("source=photos/a=b", {"source": "photos/a=b"}),  # only the first '=' parts
        ("source=", {"source": ""}),
        ("optim={lr=0.1}", {"optim": {"lr": 0.1}}),
    ],
)
def test_set_takes_toml_values_and_bare_words(setting, table):
    assert override({}, [setting]) == table


@pytest.mark.parametrize("setting", ["seed", "=3", " =3", ""])
def test_set_without_name_and_value_is_refused(setting):
    with pytest.raises(ConfigError, match="--set takes NAME=VALUE"):
        override({}, [setting])


def test_later_settings_win_and_leave_their_neighbours():
    below = {"seed": 1, "optim": {"lr": 0.1, "name": "sgd"}}
    assert override(below, ["optim.lr=0.2", "optim.lr=0.3"]) == {"seed": 1, "optim": {"lr": 0.3, "name": "sgd"}}
    assert below == {"seed": 1, "optim": {"lr": 0.1, "name": "sgd"}}


def test_merge_changes_neither_table_and_shares_no_table_with_them():
    below, above = {"a": {"x": 1}, "b": 1}, {"a": {"y": {"z": 2}}, "b": {"c": 3}}
    merged = merge(below, above)
    assert merged == {"a": {"x": 1, "y": {"z": 2}}, "b": {"c": 3}}
    merged["a"]["x"] = merged["a"]["y"]["z"] = merged["b"]["c"] = -1
    assert (below, above) == ({"a": {"x": 1}, "b": 1}, {"a": {"y": {"z": 2}}, "b": {"c": 3}})


def test_a_setting_below_one_that_is_no_table_is_refused_by_name():
    with pytest.raises(ConfigError, match="seed is {'x': 1}; it must be a whole number"):
        build_config(Settings, override({"seed": 1}, ["seed.x=1"]))


def test_not_a_number_survives_the_round_trip_so_that_its_owner_can_refuse_it():
    assert math.isnan(build_config(Settings, override({}, ["scale=nan"])).scale)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (os.mkfifo, "is a named pipe; expected a regular file"),
        (lambda path: path.symlink_to("/etc/hostname"), "is a symbolic link; expected a regular file"),
        (lambda path: path.write_text("a = " + "[" * 100_000), "is nested more than 32 levels deep"),
        (lambda path: path.write_text("a" + ".a" * 5_000 + " = 1"), "is nested more than 32 levels deep"),
        (lambda path: path.write_text("a = 1" + "0" * 40), "a is out of the range of whole numbers"),
        (lambda path: path.write_bytes(b"a = '\xff'"), "is not UTF-8 text"),
        (lambda path: path.write_bytes(b"#" * (1 << 20) + b"\n"), "has 1,048,577 bytes; at most 1,048,576 are read"),
    ],
    ids=["pipe", "link", "deep", "dotted", "number", "bytes", "size"],
)
def test_a_file_that_may_come_from_elsewhere(tmp_path, make, words):
    make(tmp_path / "run.toml")
    with pytest.raises(ConfigError, match=rf"run\.toml.*{words}"):
        load_toml(tmp_path / "run.toml")
