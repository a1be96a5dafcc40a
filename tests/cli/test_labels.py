from recog.cli.labels import label_format, split_columns


def test_columns_are_joined_by_commas():
    assert split_columns(" cat, dog,") == ("cat", "dog")
    assert label_format("", "cat,dog", "").columns == ("cat", "dog")
    assert label_format("|", "", "").separator == "|"
    assert not label_format("", "", "").is_given
