import numpy as np

from recog.core.images.decode import DEFAULT_LIMITS
from recog.data.dataset import Sample
from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import DataFacts
from recog.evaluation.results.rows import Predictions
from recog.report.page.gallery import (
    MAX_CELL_IMAGES,
    MAX_OF_CELL,
    MAX_OF_HIT,
    build_gallery,
    choose_cells,
    choose_uncertain,
)

NAMES = ("a", "b")


def results_of(probs_of_b, labels):
    probs = np.array([[1 - p, p] for p in probs_of_b])
    return Predictions(
        task="multiclass",
        paths=tuple(f"{i}.png" for i in range(len(labels))),
        class_names=NAMES,
        is_class=np.array(labels)[:, None] == np.arange(2),
        preds=(probs == probs.max(axis=1, keepdims=True)) & (probs != 0.5),
        probs=probs,
    )


def report_of(results):
    return evaluate(
        np.log(results.probs + 1e-9).astype(np.float32),
        results.is_class.argmax(axis=1),
        class_names=NAMES,
        names=results.paths,
        data=DataFacts(name="d"),
    )


def test_the_least_certain_images_are_those_near_one_half():
    results = results_of([0.9, 0.45, 0.6, 0.01], [1, 0, 0, 0])
    chosen = choose_uncertain(report_of(results), results, number=3)
    assert [image.name for image in chosen] == ["1.png", "2.png", "0.png"]  # margins 0.05, 0.1, 0.4
    assert [image.is_correct for image in chosen] == [True, False, True]
    assert (chosen[1].true, chosen[1].predicted, chosen[1].confidence) == ("a", "b", 0.6)


def test_a_confident_answer_is_not_among_the_least_certain():
    results = results_of([0.95, 0.999, 0.02, 0.001], [1, 1, 0, 0])
    assert choose_uncertain(report_of(results), results) == ()


def test_cells_hold_the_most_confident_errors_and_the_least_confident_hits():
    results = results_of([0.9, 0.6, 0.8, 0.3, 0.1], [0, 0, 1, 0, 0])
    cells = choose_cells(results)
    assert [image.name for image in cells[0, 1]] == ["0.png", "1.png"]
    assert [image.name for image in cells[0, 0]] == ["3.png", "4.png"]
    assert [image.name for image in cells[1, 1]] == ["2.png"]


def test_a_cell_is_bounded():
    rng = np.random.default_rng(0)
    results = results_of(rng.uniform(0.51, 0.99, 200), [0] * 100 + [1] * 100)
    cells = choose_cells(results)
    assert {cell: len(images) for cell, images in cells.items()} == {(0, 1): MAX_OF_CELL, (1, 1): MAX_OF_HIT}


def test_of_very_many_cells_some_stay_closed():
    k = 30
    labels = np.repeat(np.arange(k), k)
    probs = np.full((k * k, k), 0.01)
    probs[np.arange(k * k), np.tile(np.arange(k), k)] = 0.71  # every class once as every other
    results = Predictions(
        task="multiclass",
        paths=tuple(map(str, range(k * k))),
        class_names=tuple(map(str, range(k))),
        is_class=labels[:, None] == np.arange(k),
        preds=probs == 0.71,
        probs=probs,
    )
    cells = choose_cells(results)
    assert len(cells) == MAX_CELL_IMAGES
    assert all(len(images) == 1 for images in cells.values())


def test_several_labels_have_no_cells():
    results = results_of([0.9, 0.6], [0, 1])
    both = Predictions(
        task="multilabel",
        paths=results.paths,
        class_names=NAMES,
        is_class=np.ones((2, 2), bool),
        preds=results.preds,
        probs=results.probs,
    )
    assert choose_cells(both) == {}


def samples_of(number):
    rng = np.random.default_rng(number)
    return [
        Sample(name=f"{i}", source=rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), labels=(0,)) for i in range(number)
    ]


def test_pictures_are_read_once_each_and_what_cannot_be_read_is_left_out(tmp_path):
    (tmp_path / "gone.png").write_bytes(b"not an image")
    results = results_of([0.9, 0.6, 0.8], [0, 0, 1])
    samples = {s.name: s for s in samples_of(2)}
    named = dict(
        zip(
            results.paths,
            [*samples.values(), Sample(name="2.png", source=tmp_path / "gone.png", labels=(1,))],
            strict=True,
        )
    )
    gallery = build_gallery(report_of(results), results, named, limits=DEFAULT_LIMITS, data=None)
    assert sorted(gallery.pictures) == ["0", "1"]
    assert all(uri.startswith("data:image/png;base64,") for uri in gallery.pictures.values())
