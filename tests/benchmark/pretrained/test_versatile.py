import json

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from benchmark.errors import BenchError
from benchmark.pretrained import hub, img2img, kl, versatile
from benchmark.pretrained.clip import Clip, WordTokeniser
from benchmark.pretrained.clip import build as build_clip

TEXT, IMAGE, WIDTH = 6, 5, 16
UNET = {
    "sample_size": 8,
    "in_channels": 20,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": WIDTH,
    "attention_head_dim": [2, 2],
}
VAE = {**kl.MINI, "block_out_channels": [4, 8, 8], "norm_num_groups": 2, "sample_size": 32}


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    text = {"context_length": TEXT, "vocab_size": 8, "width": WIDTH, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "patch_size": 16, "layers": 1, "width": 16, "head_width": 8}
    clip = build_clip({"embed_dim": WIDTH, "vision_cfg": vision, "text_cfg": text})
    words = WordTokeniser(["a", "red", "star", "sea", "on"], TEXT)
    return {"clip": Clip(clip, words, 32), "kl": kl.KLAutoencoder(kl.build(VAE))}


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(1)
    return versatile.build(UNET)


@pytest.fixture(scope="module")
def model(unet, parts):
    positions = torch.randn(TEXT + IMAGE, WIDTH, generator=torch.Generator().manual_seed(2))
    return versatile.Versatile(unet, **parts, prediction_type="v_prediction", positions=positions)


@pytest.fixture(scope="module")
def inputs(parts):
    images = np.random.default_rng(3).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    texts = ["a red star", "sea", "red on sea", "a", "star on sea"]
    return parts["clip"].image_tokens(images), parts["clip"].text_tokens(texts), images


def single(unet, stream):
    """The UNet without any dual transformer that has the weights of one stream."""
    plain = UNet2DConditionModel(**UNET)
    tensors = {k: v for k, v in unet.state_dict().items() if f".transformers.{1 - stream}." not in k}
    plain.load_state_dict({k.replace(f".transformers.{stream}.", "."): v for k, v in tensors.items()})
    return plain.eval()


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize(("weight", "stream"), [(1.0, 1), (0.0, 0)])
def test_weights_one_and_zero_are_the_text_only_and_image_only_forward(unet, weight, stream, as_tensor):
    g = torch.Generator().manual_seed(0)
    x, tokens = torch.randn(3, 20, 8, 8, generator=g), torch.randn(3, TEXT + IMAGE, WIDTH, generator=g)
    mixed = torch.full((3, 1, 1, 1), weight) if as_tensor else weight
    versatile.set_conditions(unet, mixed, TEXT, IMAGE)
    own = tokens[:, :TEXT] if stream == 1 else tokens[:, TEXT:]
    with torch.no_grad():
        found, expected = unet(x, 300, tokens).sample, single(unet, stream)(x, 300, own).sample
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_every_attention_mixes_as_written(unet):
    """h + w (text(h) - h) + (1 - w) (image(h) - h), from the two streams themselves."""
    dual = next(m for m in unet.modules() if hasattr(m, "transformer_index_for_condition"))
    g = torch.Generator().manual_seed(1)
    h, tokens = torch.randn(2, 8, 8, 8, generator=g), torch.randn(2, TEXT + IMAGE, WIDTH, generator=g)
    versatile.set_conditions(unet, 0.4, TEXT, IMAGE)
    with torch.no_grad():
        found = dual(h, tokens, encoder_attention_mask=None, return_dict=False)[0]
        image, text = (
            dual.transformers[i](h, t, return_dict=False)[0] for i, t in ((0, tokens[:, TEXT:]), (1, tokens[:, :TEXT]))
        )
    torch.testing.assert_close(found, h + 0.4 * (text - h) + 0.6 * (image - h), atol=1e-6, rtol=1e-5)


def test_pictures_depend_on_their_own_seed_and_not_on_the_batch(model, inputs):
    image_tokens, text_tokens, start = inputs
    options = {"steps": 4, "strength": 0.75}
    together = model.generate(image_tokens, text_tokens, range(5), start, batch=5, **options).astype(int)
    assert together.shape == (5, 32, 32, 3)
    for batch in (1, 2):
        found = model.generate(image_tokens, text_tokens, range(5), start, batch=batch, **options)
        assert np.abs(found - together).max() <= 1
    other = model.generate(image_tokens, text_tokens, [0, 1, 99, 3, 4], start, **options)
    changed = (other != together).any((1, 2, 3))
    assert changed[2]
    assert np.abs(other - together)[~changed].max(initial=0) <= 1
    assert np.abs(other - together)[[0, 1, 3, 4]].max() <= 1


def test_text_weight_one_ignores_the_image_tokens(model, inputs):
    image_tokens, text_tokens, start = inputs
    found = [
        model.generate(tokens, text_tokens, range(5), start, steps=4, text_weight=1)
        for tokens in (image_tokens, image_tokens[::-1].copy())
    ]
    np.testing.assert_array_equal(*found)
    found = [
        model.generate(image_tokens, tokens, range(5), start, steps=4, text_weight=0)
        for tokens in (text_tokens, text_tokens[::-1].copy())
    ]
    np.testing.assert_array_equal(*found)


def test_the_unconditional_inputs_are_mid_grey_and_the_empty_caption(model, parts):
    grey, nothing = model.unconditional()
    np.testing.assert_array_equal(grey, parts["clip"].image_tokens(np.full((1, 32, 32, 3), 128, np.uint8)))
    np.testing.assert_array_equal(nothing, parts["clip"].text_tokens([""]))


def test_no_picture_gives_none(model, inputs):
    image_tokens, text_tokens, _ = inputs
    assert model.generate(image_tokens[:0], text_tokens[:0], []).shape == (0, 32, 32, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, t, s: (i[:, :, 1:], t, range(5), s), "image tokens must be"),
        (lambda i, t, s: (i[:, :0], t, range(5), s), "image tokens must be"),
        (lambda i, t, s: (np.repeat(i, 2, 1), t, range(5), s), "image tokens must be"),
        (lambda i, t, s: (i, t[:4], range(5), s), "text tokens must be"),
        (lambda i, t, s: (i, t * np.nan, range(5), s), "NaN"),
        (lambda i, t, s: (i, t, range(5), s[:3]), "start pictures"),
        (lambda i, t, s: (i, t, range(5), s / 255), "uint8"),
    ],
)
def test_wrong_input_is_one_sentence(model, inputs, change, message):
    with pytest.raises(BenchError, match=message):
        model.generate(*change(*inputs), steps=4)


def test_text_weight_out_of_range(model, inputs):
    with pytest.raises(BenchError, match="text_weight"):
        model.generate(*inputs[:2], range(5), text_weight=1.5)


def test_the_published_layout_loads(parts, inputs, tmp_path):
    """Two UNets of the same configuration, of which the second gives its attentions only."""
    torch.manual_seed(4)
    config = {**UNET, "in_channels": 4}
    flows = {}
    for flow in ("image_unet", "text_unet"):
        folder = tmp_path / flow
        folder.mkdir()
        plain = UNet2DConditionModel(**config)
        flows[flow] = plain.state_dict()
        torch.save(plain.state_dict(), folder / "diffusion_pytorch_model.bin")
        text = json.dumps({"_class_name": "UNet2DConditionModel", "dual_cross_attention": False, **config})
        (folder / "config.json").write_text(text)
    files = {f"{path.parent.name}/{path.name}": path for path in tmp_path.glob("*/*")}
    model = versatile.Versatile.from_full(files, **parts)
    state = model.unet.state_dict()
    # All of the image flow, and the attentions of the text flow.
    attentions = sum(".attentions." in name for name in flows["text_unet"])
    assert len(state) == len(flows["image_unet"]) + attentions
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    for stream, flow in enumerate(flows):
        merged = name.replace("attentions.0.", f"attentions.0.transformers.{stream}.")
        torch.testing.assert_close(state[merged], flows[flow][name])
    torch.testing.assert_close(state["conv_in.weight"], flows["image_unet"]["conv_in.weight"])
    image_tokens, text_tokens, start = inputs
    assert model.generate(image_tokens, text_tokens, range(5), start, steps=3).shape == (5, 32, 32, 3)


def test_the_published_size():
    with torch.device("meta"):
        dual, plain = versatile.build(img2img.FULL), img2img.build(img2img.FULL)
    assert sum(p.numel() for p in plain.parameters()) == 859_520_964
    attentions = sum(p.numel() for name, p in plain.named_parameters() if ".attentions." in name)
    assert sum(p.numel() for p in dual.parameters()) == 859_520_964 + attentions


def test_text_to_picture_of_the_text_stream_is_the_dual_model_at_text_weight_one(model, parts, inputs):
    _, _, start = inputs
    captions = ["a red star", "sea", "red on sea", "a", "star on sea"]
    plain = img2img.build(UNET)
    plain.load_state_dict(img2img.text_flow(model.unet.state_dict()))
    text = img2img.Img2Img(plain, **parts, prediction_type="v_prediction", positions=model.positions[:TEXT])
    found = text.generate(captions, start, range(5), steps=4, guidance=3.0).astype(int)
    tokens = parts["clip"].text_tokens(captions)
    expected = model.generate(inputs[0], tokens, range(5), start, steps=4, guidance=3.0, text_weight=1)
    assert np.abs(found - expected).max() <= 1
    alone = text.generate(captions[3:4], start[3:4], [3], steps=4, guidance=3.0)
    assert np.abs(alone - found[3:4]).max() <= 1


def test_one_start_picture_per_caption(parts, inputs):
    text = img2img.Img2Img(img2img.build({**UNET, "in_channels": 4}), **parts)
    with pytest.raises(BenchError, match="2 captions and 1 start pictures for 2 seeds"):
        text.generate(["a", "sea"], inputs[2][:1], [0, 1])


def test_stable_diffusion_attends_to_states_before_the_projection(parts, inputs):
    """Padding has the end's own token there, not 0."""
    text = img2img.Img2Img(img2img.build({**UNET, "in_channels": 4}), **parts)
    clip = parts["clip"].model
    ids = torch.tensor([[6, 2, 7, 7, 7, 7]])  # begin, red, end, then the end again
    with torch.no_grad():
        x = clip.token_embedding(ids) + clip.positional_embedding
        expected = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask))
    torch.testing.assert_close(text.tokens(["red"]), expected, atol=1e-5, rtol=1e-5)
    assert text.generate(["red"], inputs[2][:1], [0], steps=3).shape == (1, 32, 32, 3)


def test_stable_diffusion_layout_loads(parts, tmp_path):
    from safetensors.torch import save_file

    config = {**UNET, "in_channels": 4}
    torch.manual_seed(5)
    plain = img2img.build(config)
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel", **config}))
    save_file(plain.state_dict(), tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
    files = {f"unet/{path.name}": path for path in (tmp_path / "unet").iterdir()}
    loaded = img2img.Img2Img.from_full(files, **parts)
    torch.testing.assert_close(loaded.unet.state_dict(), plain.state_dict())


@pytest.mark.skipif(hub.files("versatile", "mini")["versatile.safetensors"] is None, reason="weights not shipped yet")
def test_mini_draws_what_it_is_told():
    from benchmark.data import scenes as worlds
    from benchmark.pretrained.training.common import held_out

    scenes, images = held_out(24, seed=4242)
    model = hub.load("versatile", "mini")
    text = np.stack([model.clip.text_tokens(several).mean(0) for several in worlds.captions(scenes, 1)])
    drawn = model.generate(model.clip.image_tokens(images), text, range(24), images, steps=20, guidance=3.0)
    similarity = model.clip.encode_image(drawn) @ model.clip.encode_image(images).T
    assert (similarity.diagonal()[:, None] > similarity).sum() / (24 * 23) >= 0.95
