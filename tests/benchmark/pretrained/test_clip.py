"""CLIP: token sequences as Versatile Diffusion uses them, L2 rules, and what may come in."""

import numpy as np
import open_clip
import pytest
import torch

from benchmark.data import scenes as worlds
from benchmark.errors import BenchError
from benchmark.pretrained.clip import OPENAI_MEAN, OPENAI_STD, Clip, WordTokeniser, build, full_config, preprocess
from benchmark.pretrained.training import clip as task


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    config = task.config()
    return Clip.from_mini(config, build(config["architecture"], config["stem"]).state_dict())


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)


CAPTIONS = ["a red star on grass", "the sea with a small blue ring and a large pink heart", ""]


def test_image_tokens_against_the_definition(clip, images):
    tokens = clip.image_tokens(images)
    assert tokens.shape == (5, clip.image_token_count, clip.width) == (5, 65, 96)
    # By hand: the tower without its pooling, last norm and projection of every token, over the class token's norm.
    visual = clip.model.visual
    mean, std = (torch.tensor(v)[:, None, None] for v in (clip.mean, clip.std))
    x = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std
    x = visual.conv1(x).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(5, 1, -1), x], 1) + visual.positional_embedding
    x = visual.ln_post(visual.transformer(visual.ln_pre(x))) @ visual.proj
    expected = x / x[:, :1].norm(dim=2, keepdim=True)
    np.testing.assert_allclose(tokens, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(tokens[:, 0], clip.encode_image(images), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(clip.encode_image(images), axis=1), 1, atol=1e-6)


def test_pooled_embeddings_are_open_clips_own(clip, images):
    with torch.no_grad():
        pixels = preprocess(images, 64, clip.mean, clip.std)
        image = clip.model.encode_image(pixels, normalize=True).numpy()
        text = clip.model.encode_text(clip.tokenise(CAPTIONS), normalize=True).numpy()
    np.testing.assert_allclose(clip.encode_image(images), image, atol=1e-6)
    np.testing.assert_allclose(clip.encode_text(CAPTIONS), text, atol=1e-6)


def test_text_tokens_are_divided_by_the_norm_of_the_end_token(clip):
    tokens = clip.text_tokens(CAPTIONS)
    assert tokens.shape == (3, clip.text_token_count, clip.width)
    ends = [len(caption.split()) + 1 for caption in CAPTIONS]
    np.testing.assert_allclose(tokens[np.arange(3), ends], clip.encode_text(CAPTIONS), atol=1e-6)


def test_batch_size_changes_nothing(clip, images):
    np.testing.assert_allclose(clip.image_tokens(images, batch=2), clip.image_tokens(images), atol=1e-5)
    np.testing.assert_allclose(clip.text_tokens(CAPTIONS, batch=1), clip.text_tokens(CAPTIONS), atol=1e-5)


def test_nothing_in_nothing_out(clip):
    assert clip.image_tokens(np.zeros((0, 64, 64, 3), np.uint8)).shape == (0, 65, 96)
    assert clip.encode_text([]).shape == (0, 96)


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 64, 64, 3)), np.zeros((64, 64, 3), np.uint8), np.zeros((1, 3, 64, 64), np.uint8), [[0]]]
)
def test_pictures_must_be_uint8(clip, wrong):
    with pytest.raises(BenchError, match="uint8 of shape"):
        clip.encode_image(wrong)


def test_captions_must_be_a_list_of_texts(clip):
    with pytest.raises(BenchError, match="list of texts"):
        clip.encode_text("a red star")
    with pytest.raises(BenchError, match="list of texts"):
        clip.encode_text([("a red star",)])


def test_tokeniser_knows_every_caption_of_the_world():
    config = task.config()
    tokenise = WordTokeniser(config["words"], 26)
    texts = [text for several in worlds.captions(worlds.sample(np.random.default_rng(1), 400)) for text in several]
    ids = tokenise(texts).numpy()
    assert (ids[:, 0] == tokenise.begin).all()
    assert ((ids == tokenise.end).sum(1) == 1).all()
    assert ids.max() == tokenise.end == config["architecture"]["text_cfg"]["vocab_size"] - 1
    back = [" ".join(tokenise.words[i - 1] for i in row if 0 < i < tokenise.begin) for row in ids]
    assert back == [text.replace(",", "") for text in texts]
    with pytest.raises(BenchError, match="not 'zebra'"):
        tokenise(["a zebra"])
    with pytest.raises(BenchError, match="25 words"):
        tokenise(["red " * 25])


def test_preparation_is_open_clips_own_resize_and_crop():
    image = np.random.default_rng(3).integers(0, 256, (7, 9, 3), dtype=np.uint8).repeat(40, 0).repeat(40, 1)
    from PIL import Image

    own = preprocess(image[None], 224, OPENAI_MEAN, OPENAI_STD)[0]
    theirs = open_clip.transform.image_transform(224, is_train=False, mean=OPENAI_MEAN, std=OPENAI_STD)
    difference = (own - theirs(Image.fromarray(image))).abs()
    assert difference.max() < 2.1 / 255 / min(OPENAI_STD)  # two grey values: rounding of two resize passes


@pytest.mark.parametrize(
    ("name", "parameters", "tokens", "width"),
    [
        ("ViT-L-14", 427_616_513, 257, 768),
        ("ViT-B-32", 151_277_313, 50, 512),
        ("ViT-H-14", 986_109_441, 257, 1024),
        ("ViT-bigG-14", 2_539_567_105, 257, 1280),
    ],
)
def test_published_sizes(name, parameters, tokens, width):
    with torch.device("meta"):
        model = build(full_config(name))
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model.visual.positional_embedding.shape[0] == tokens
    assert model.text_projection.shape[1] == width
    assert model.context_length == 77


@pytest.mark.slow
def test_vit_l14_runs_with_random_weights(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "open_clip_model.safetensors"
    save_file(build(full_config("ViT-L-14")).state_dict(), path)
    clip = Clip.from_full({"open_clip_model.safetensors": path})
    images = np.random.default_rng(0).integers(0, 256, (1, 425, 425, 3), dtype=np.uint8)
    assert clip.image_tokens(images).shape == (1, 257, 768)
    tokens = clip.text_tokens(["two dogs on a sofa"])
    assert tokens.shape == (1, 77, 768)
    np.testing.assert_allclose(np.linalg.norm(tokens[0, 6]), 1, atol=1e-4)
