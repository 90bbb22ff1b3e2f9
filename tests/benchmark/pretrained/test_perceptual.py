"""Networks of the published protocols on random weights, against torchvision, torchmetrics and plain torch."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.image import lpips as torchmetrics_lpips
from torchvision import models, transforms
from torchvision.transforms import v2

from benchmark.errors import BenchError
from benchmark.frozen import Source, checksums
from benchmark.pretrained import hub, perceptual
from benchmark.pretrained.perceptual import LPIPS_LAYERS, Lpips, Network, build, pixels_for
from benchmark.spaces import FEATURES, MEASURES

WEIGHTS = {
    "alexnet": models.AlexNet_Weights.IMAGENET1K_V1,
    "inception": models.Inception_V3_Weights.IMAGENET1K_V1,
    "effnet-b1-v1": models.EfficientNet_B1_Weights.IMAGENET1K_V1,
    "effnet-b1-v2": models.EfficientNet_B1_Weights.IMAGENET1K_V2,
}
NORMALISE = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def pictures(n=3, side=60, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 6, 6, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(x).resize((side, side), Image.Resampling.BICUBIC)) for x in coarse])


@pytest.fixture(scope="module")
def alexnet():
    torch.manual_seed(0)
    return build("alexnet").eval()


def alive(module):
    """Return the network in use, its normalisation layers with statistics of noisy pictures.

    With those of a new network, activations vanish on their way (to 1e-13 in EfficientNet): nothing could differ. With
    those of the very pictures, small differences grow.
    """
    for layer in module.eval().modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.train()
            layer.momentum = None
    pixels = torch.stack([as_published(image, "brain-diffuser", 224) for image in pictures(4, 90)])
    with torch.no_grad():
        module(pixels + torch.randn(pixels.shape))
    return module.eval()


def as_published(image, protocol, side):
    """One picture as a protocol brings it to a network, with torchvision's own transforms."""
    if protocol == "bench-1":
        shorter = v2.Resize(side, interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
        tensor = torch.from_numpy(image).permute(2, 0, 1)
        return NORMALISE(v2.functional.center_crop(shorter(tensor), [side, side]) / 255)
    if protocol == "brain-diffuser":
        return NORMALISE(transforms.ToTensor()(transforms.Resize((224, 224))(Image.fromarray(image))))
    tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    bilinear = transforms.InterpolationMode.BILINEAR
    tensor = transforms.Resize((256, 256), interpolation=bilinear, antialias=False)(tensor)
    return NORMALISE(transforms.Resize(side, interpolation=bilinear, antialias=False)(tensor))


@pytest.mark.parametrize(("protocol", "side"), [("brain-diffuser", 224), ("mindeye", 256), ("bench-1", 224)])
@pytest.mark.parametrize(("layer", "last", "shape"), [("features.4", 5, (192, 27)), ("features.11", 12, (256, 13))])
def test_alexnet_as_published(alexnet, protocol, side, layer, last, shape):
    images = pictures(side=90)
    found = Network(alexnet, "alexnet").features(images, layer, protocol, batch=2)
    with torch.no_grad():
        pixels = torch.stack([as_published(image, protocol, side) for image in images])
        expected = alexnet.features[:last](pixels)
    assert expected.shape[1:3] == (shape[0], shape[1] + 2 * (side == 256) + 2 * (side == 256 and last == 5))
    np.testing.assert_allclose(found, expected.flatten(1), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "width", "own", "side"),
    [("inception", 2048, 299, 342), ("effnet-b1", 1280, 240, 255), ("swav", 2048, 224, 224)],
)
def test_average_pooling_as_published(name, width, own, side):
    torch.manual_seed(1)
    module = alive(build(name))
    images = pictures(2, 90)
    caught = []
    module.avgpool.register_forward_hook(lambda _module, _input, output: caught.append(output.flatten(1)))
    found = {}
    for protocol, size in (("brain-diffuser", 224), ("mindeye", side), ("bench-1", own)):
        found[protocol] = Network(module, name).features(images, "avgpool", protocol)
        caught.clear()
        with torch.no_grad():
            module(torch.stack([as_published(image, protocol, size) for image in images]))
        assert found[protocol].shape == (2, width)
        scale = np.abs(found[protocol]).max()
        assert scale > 0.1
        np.testing.assert_allclose(found[protocol], caught[0], atol=1e-5 * scale, rtol=0)
    for protocol in ("mindeye", "bench-1"):  # the tolerance tells the protocols apart
        assert np.abs(found[protocol] - found["brain-diffuser"]).max() > 1e-3 * scale


def test_inception_shifts_its_input_as_for_its_published_weights():
    with torch.device("meta"):
        assert build("inception").transform_input


def test_own_path_keeps_the_shape_and_uses_the_networks_own_size():
    wide = np.zeros((1, 40, 80, 3), np.uint8)
    wide[:, :, 20:60] = 255  # the middle square
    assert pixels_for(wide, "bench-1", 299).shape == (1, 3, 299, 299)
    assert (pixels_for(wide, "bench-1", 40) == 1).all()
    for published in ("brain-diffuser", "mindeye"):  # squashed: the sides are still there
        assert pixels_for(wide, published, 40)[..., 0].max() == 0
    with pytest.raises(BenchError, match="no protocol is called 'other'"):
        pixels_for(wide, "other", 40)


def test_grey_pictures_are_three_equal_channels(alexnet):
    images = pictures(2)[..., :1]
    network = Network(alexnet, "alexnet")
    found, expected = (network.features(x, "features.4") for x in (images, images.repeat(3, axis=-1)))
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(BenchError, match="pictures must be an array of uint8"):
        network.features(images / 255.0, "features.4")


def test_lpips_equals_torchmetrics(alexnet, monkeypatch):
    monkeypatch.setattr(torchmetrics_lpips, "_get_tv_model_features", lambda *_: alexnet.features)
    own_file = hub.files("lpips", "full")[hub._LPIPS.path]
    reference = torchmetrics_lpips._LPIPS(pretrained=False, net="alex")
    heads = torch.load(own_file, map_location="cpu", weights_only=True)
    reference.load_state_dict(heads, strict=False)
    lpips = Lpips(alexnet, [heads[f"lin{i}.model.1.weight"] for i in range(len(LPIPS_LAYERS))])
    first, second = pictures(4, 128), pictures(4, 128, seed=1)
    tensors = (torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 for x in (first, second))
    with torch.no_grad():
        expected = reference(*tensors, normalize=True).flatten()
    rows = lpips.features(first), lpips.features(second)
    np.testing.assert_allclose(np.square(rows[0] - rows[1]).sum(1), expected, atol=1e-5)
    assert expected.min() > 1e-3
    with pytest.raises(ValueError, match="below 0"):
        Lpips(alexnet, [-torch.ones(1)] * 5)


@pytest.mark.parametrize("name", WEIGHTS)
def test_files_are_the_ones_of_torchvision(name):
    (file,) = hub.MODELS[name].files
    assert file.url == WEIGHTS[name].url
    assert file.path == WEIGHTS[name].url.rpartition("/")[2]
    assert file.sha256
    assert f"-{file.sha256}.pth" in file.path


def test_every_feature_of_a_metric_has_a_model_and_every_measure_is_used():
    assert {model for model, _, _ in FEATURES.values()} == {*MEASURES, "clip", "judge"}
    for kind, (model, _, options) in FEATURES.items():
        assert model in hub.MODELS
        if model in MEASURES and model != "lpips":
            assert options["path"] == (kind.partition("[")[2].rstrip("]") or "bench-1")
            architecture = hub.MODELS[model].architecture
            assert architecture in perceptual.SIDES
            if model != "clip-l14":
                with torch.device("meta"):
                    assert options["layer"] in dict(build(architecture).named_modules())
    assert FEATURES["effnet_b[brain-diffuser]"][0] == "effnet-b1-v1"
    assert FEATURES["effnet_b[mindeye]"][0] == "effnet-b1-v2"


def save_weights(folder, monkeypatch):
    """Files with random weights under the published names; their checksums are not the published ones."""
    torch.manual_seed(0)
    for name in ("alexnet", "swav"):
        state = build(name).state_dict()
        if name == "swav":
            state = {f"module.{k}": v for k, v in state.items()} | {"module.prototypes.weight": torch.zeros(3, 2)}
        torch.save(state, folder / hub.MODELS[name].files[0].path)
    for name in ("alexnet", "lpips"):
        files = tuple(dataclasses.replace(f, sha256="") for f in hub.MODELS[name].files)
        monkeypatch.setitem(hub.MODELS, name, dataclasses.replace(hub.MODELS[name], files=files))


def test_from_published_files_in_a_folder(tmp_path, monkeypatch):
    save_weights(tmp_path, monkeypatch)
    images = pictures(2)
    source = Source("full", tmp_path / "cache", tmp_path)
    assert source.features("alexnet2[brain-diffuser]", images).shape == (2, 192 * 27 * 27)
    assert source.features("swav[mindeye]", images).shape == (2, 2048)
    assert source.features("lpips", images).shape[0] == 2
    for profile in ("mini", "full"):  # these networks are the published ones in both
        source = Source(profile, tmp_path / "cache", tmp_path)
        assert source.absent("inception") == ("inception_v3_google-0cc3c7bd.pth",)
        assert set(checksums(["alexnet", "inception", "swav"], profile, tmp_path)) == {"alexnet", "swav"}
    expected = build("swav")
    expected.load_state_dict({k[7:]: v for k, v in torch.load(tmp_path / hub._SWAV).items() if "proto" not in k})
    loaded = hub.load("swav", "full", tmp_path).module
    for key, value in expected.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key])


def test_other_weights_under_a_published_name_are_refused(tmp_path):
    torch.save(build("alexnet").state_dict(), tmp_path / "alexnet-owt-7be5be79.pth")
    with pytest.raises(BenchError, match="sha256 differs from the published one"):
        hub.load("alexnet", "full", tmp_path)
    with pytest.raises(BenchError, match="alexnet exists in profile full only"):
        hub.load("alexnet", "mini", tmp_path)


def test_a_pickle_with_code_is_not_run(tmp_path):
    class Boom:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"a": Boom()}, tmp_path / hub._SWAV)
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        hub.load("swav", "full", tmp_path)
