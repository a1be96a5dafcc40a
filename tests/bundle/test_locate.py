import os
import shutil
from pathlib import Path

import pytest

from recog.bundle.manifest import find_bundle, run_of
from recog.core.errors import BundleError


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_bundle(folder):
    folder.mkdir(parents=True)
    (folder / "recog.json").write_text("{}")
    return folder


def make_run(folder):
    bundle = make_bundle(folder / "bundle")
    (folder / "run.toml").write_text("")
    return bundle


def test_a_bundle_is_itself(here):
    bundle = make_bundle(here / "a" / "my bundle")
    assert find_bundle(bundle) == bundle
    assert find_bundle("a/my bundle") == Path("a/my bundle")


def test_a_run_folder_means_its_bundle(here):
    bundle = make_run(here / "elsewhere" / "photos-1")
    assert find_bundle(here / "elsewhere" / "photos-1") == bundle
    assert find_bundle("elsewhere/photos-1/") == Path("elsewhere/photos-1/bundle")


def test_a_runs_name_means_the_run_below_runs(here):
    make_run(here / "runs" / "photos-1")
    assert find_bundle("photos-1") == Path("runs/photos-1/bundle")


def test_an_existing_path_comes_before_a_name(here):
    make_run(here / "runs" / "photos")
    make_run(here / "photos")
    assert find_bundle("photos") == Path("photos/bundle")


def test_data_of_the_same_name_does_not_hide_the_run(here):
    make_run(here / "runs" / "photos")
    (here / "photos").mkdir()  # the images
    assert find_bundle("photos") == Path("runs/photos/bundle")


def test_a_path_is_no_name(here):
    make_run(here / "runs" / "a" / "photos")
    with pytest.raises(BundleError, match="no bundle or run 'a/photos'"):
        find_bundle("a/photos")


def test_a_folder_that_is_neither_says_what_it_lacks(here):
    (here / "photos").mkdir()
    with pytest.raises(
        BundleError, match=r"neither a bundle nor a finished run: it holds no recog\.json and no bundle/"
    ):
        find_bundle("photos")
    (here / "file.txt").write_text("")
    with pytest.raises(BundleError, match="neither a bundle nor"):
        find_bundle("file.txt")


def test_an_unfinished_run_is_no_bundle(here):
    (here / "runs" / "photos-1" / "bundle.tmp-17").mkdir(parents=True)
    (here / "runs" / "photos-1" / "bundle.tmp-17" / "recog.json").write_text("{}")
    with pytest.raises(BundleError, match="neither a bundle nor a finished run"):
        find_bundle("photos-1")


def test_a_misspelt_name_gets_the_nearest(here):
    make_run(here / "runs" / "photos-1")
    make_run(here / "runs" / "digits-1")
    (here / "runs" / "phtos-2").mkdir()  # unfinished: not offered
    with pytest.raises(BundleError, match=r"no bundle or run 'phtos-1'. Did you mean 'photos-1'\?"):
        find_bundle("phtos-1")
    with pytest.raises(BundleError, match="Runs here: digits-1, photos-1"):
        find_bundle("zzz")


def test_without_any_run(here):
    with pytest.raises(BundleError, match=r"no bundle or run 'photos'\. There are no runs below \./runs: give"):
        find_bundle("photos")


@pytest.mark.parametrize("name", ["x" * 5000, "a\x00b", "\udcff", "", "~", "..", "*"])
def test_strange_names_are_bundle_errors(here, name):
    with pytest.raises(BundleError):
        find_bundle(name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_place_of_the_manifest_does_not_hang(here):
    (here / "b").mkdir()
    os.mkfifo(here / "b" / "recog.json")
    with pytest.raises(BundleError, match="neither a bundle"):
        find_bundle("b")


def test_the_run_of_a_bundle(here):
    bundle = make_run(here / "runs" / "photos-1")
    assert run_of(bundle) == here / "runs" / "photos-1"
    assert run_of(Path("runs/photos-1/bundle")) == here / "runs" / "photos-1"
    assert run_of(shutil.copytree(bundle, here / "alone")) is None
    assert run_of(shutil.copytree(bundle, here / "runs" / "photos-1" / "copy")) is None
    (here / "runs" / "photos-1" / "run.toml").unlink()
    assert run_of(bundle) is None


def test_a_tilde_is_the_users_home(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here / "home"))
    bundle = make_run(here / "home" / "runs" / "photos-1")
    assert find_bundle("~/runs/photos-1") == bundle
    assert find_bundle(Path("~/runs/photos-1/bundle")) == bundle
    literal = make_bundle(here / "~" / "b")  # of that very name, it comes first
    assert find_bundle("~/b").resolve() == literal


@pytest.mark.parametrize("name", [None, "", " ", 3, b"run", ["run"]])
def test_what_is_no_path_is_named(here, name):
    with pytest.raises(BundleError, match=r"the bundle is .*; expected the path of a bundle or run, or a run's name"):
        find_bundle(name)


def test_an_unfinished_run_has_the_command_that_resumes_it(here):
    (here / "runs" / "photos-1").mkdir(parents=True)
    (here / "runs" / "photos-1" / "run.toml").touch()
    with pytest.raises(BundleError, match="photos-1 is unfinished .* To resume: recog train --resume runs/photos-1"):
        find_bundle("photos-1")
