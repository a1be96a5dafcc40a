from recog.data.lists.rows import cells_of


def test_numbers_and_short_texts_are_cells_to_slice_by():
    row = {"camera": "a", "iso": 100, "gain": 0.5, "night": True, "lens": None, "boxes": [1], "caption": "x" * 201}
    assert cells_of(row) == (("camera", "a"), ("iso", "100"), ("gain", "0.5"), ("night", "True"), ("lens", ""))
    assert cells_of({"caption": "x" * 200}) == (("caption", "x" * 200),)
