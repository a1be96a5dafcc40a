import torch
import torchvision

from recog.models.alexnet import alexnet


def test_it_answers_as_torchvisions_with_the_same_weights():
    torch.manual_seed(0)
    theirs = torchvision.models.alexnet(num_classes=5).eval()
    ours = alexnet(num_classes=5, in_chans=3).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 80, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))
        features = ours.forward_head(ours.forward_features(images), pre_logits=True)
        assert features.shape == (2, ours.num_features)
        assert torch.allclose(ours.get_classifier()(features), theirs(images), atol=1e-6)


def test_grey_images_have_filters_of_one_channel():
    network = alexnet(num_classes=2, in_chans=1).eval()
    assert network.features[0].weight.shape == (64, 1, 11, 11)
    assert network(torch.zeros(1, 1, 63, 63)).shape == (1, 2)
