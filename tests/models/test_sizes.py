import pytest
import timm
import torch
from small_models import build, images_for, logits_of, save_bundle_files

from recog.core.errors import ConfigError
from recog.models.network_files import load_classifier
from recog.models.timm_bridge import first_square, has_fixed_size, input_size, timm_takes, with_input_size, wrong_size


@pytest.mark.parametrize(
    ("name", "image_size", "smallest", "above"),
    [
        ("test_convnext", (3, 5), 32, None),  # a stem of 4 px, then three halvings
        ("test_vit", (50, 64), 16, 64),  # patches of 16 px
        ("test_vit", (8, 8), 16, None),
        ("vgg11", (31, 31), 32, None),  # five halvings
        ("test_efficientnet", None, 1, None),  # padded convolutions: any size
    ],
)
def test_the_smallest_size_that_works_is_named_and_is_the_smallest(name, image_size, smallest, above):
    takes = timm_takes(name, in_chans=3)
    assert first_square(takes) == smallest
    model = build(name, weights="none", image_size=(smallest, smallest))  # on real images too
    assert logits_of(model.classifier, images_for(model)).shape == (2, 3)
    if image_size is None:
        return
    with pytest.raises(ConfigError) as refusal:
        build(name, weights="none", image_size=image_size)
    text = str(refusal.value)
    assert text.startswith(f"{name} does not support images of {image_size[1]} x {image_size[0]} px: ")
    end = f"the smallest supported size is {smallest} x {smallest} px"
    assert text.endswith(f"{end}." if above is None else f"{end}, the next larger one {above} x {above} px.")


@pytest.mark.parametrize("name", ["test_convnext", "vgg11"])
def test_what_is_found_without_arithmetic_is_what_torch_does(name):
    takes = timm_takes(name, in_chans=1)
    network = timm.create_model(name, in_chans=1).eval()
    for side in (1, 3, 16, 31, 32, 33):
        try:
            with torch.no_grad():
                network(torch.zeros(1, 1, side, side))
        except RuntimeError:
            assert not takes((side, side))
        else:
            assert takes((side, side))


def test_a_network_that_is_told_its_size_only_when_made_is_made_anew(tmp_path):
    """coat_tiny has no set_input_size; its tables of positions depend on the size."""
    model = build("coat_tiny", weights="none", image_size=(32, 64))
    assert not hasattr(model.classifier.network, "set_input_size")
    save_bundle_files(model, tmp_path)
    images = images_for(model)
    assert torch.equal(logits_of(load_classifier(tmp_path), images), logits_of(model.classifier, images))


def test_a_size_is_set_where_the_network_can_be_told():
    network = timm.create_model("test_vit")
    assert has_fixed_size(network)
    assert input_size(network) == (160, 160)
    assert with_input_size(network, (32, 48), lambda **_: pytest.fail("made anew")) is network
    assert network(torch.zeros(1, 3, 32, 48)).shape == (1, 1000)
    assert not has_fixed_size(timm.create_model("test_resnet"))


def test_an_error_that_the_size_is_not_to_blame_for_stays_itself():
    error = RuntimeError("out of memory")
    assert wrong_size("net", (4, 4), error, lambda size: True) is error


def test_where_no_size_works_none_is_named():
    refusal = wrong_size("net", (4, 5), ValueError("too odd."), lambda size: False)
    assert str(refusal) == "net does not support images of 5 x 4 px: too odd."
