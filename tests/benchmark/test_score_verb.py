"""Predictions made elsewhere: every way to give them, every way they can be wrong, and a wrong order."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark import alignment
from benchmark.data.splits import split_checksum
from benchmark.store import Store
from tests.helpers.make_folder import make_folder

N, TEST = 24, 8
IDS = [f"stim{i:03d}" for i in range(N - TEST, N)]


@pytest.fixture
def data(tmp_path):
    """A folder dataset and its truth in the order of the split: vectors and pictures."""
    root = make_folder(tmp_path / "tiny", image_size=16, n_stimuli=N, n_test=TEST, words=False)
    return root, np.load(root / "latent.npy")[-TEST:], np.load(root / "images.npy")[-TEST:]


@pytest.fixture
def score(bench, data, tmp_path):
    """Call the verb on a file made of an array; returns code, output and error."""

    def call(value, *options, path="given.npy", subject="S1", store="runs"):
        file = tmp_path / path
        if value is not None:
            if file.suffix == ".npy":
                np.save(file, value)
            elif file.suffix == ".npz":
                np.savez(file, **value)
            else:
                torch.save(value, file)
        where = ("--dataset", "tiny", "--data", data[0], "--subject", subject, "--store", tmp_path / store)
        return bench("score", file, *where, *options)

    return call


def metrics(tmp_path, track, store="runs"):
    (run,) = Store(tmp_path / store).runs()
    return {name: record["value"] for name, record in run.scores["tracks"][track].items()}


def refused(answer, tmp_path, *words):
    code, out, err = answer
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert all(word in err for word in words), err
    assert not (tmp_path / "runs").exists()


def write_pictures(folder, pictures, names):
    folder.mkdir()
    for picture, name in zip(pictures, names, strict=True):
        Image.fromarray(picture).save(folder / name)


# --- whole runs ------------------------------------------------------------------------------------------------------


def test_vectors_become_a_run_and_a_tagged_row(score, data, tmp_path):
    _, truth, pictures = data
    order = np.random.default_rng(0).permutation(TEST)
    (tmp_path / "ids.txt").write_text("\n".join(IDS[i] for i in order))
    arguments = (truth[order], "--ids", tmp_path / "ids.txt", "--name", "mine", "--trained-on", "tiny S1")
    code, out, err = score(*arguments)
    assert (code, err) == (0, "")
    assert "warning" not in out
    (run,) = Store(tmp_path / "runs").runs()
    assert metrics(tmp_path, "embedding")["top1"] == 1
    assert metrics(tmp_path, "embedding")["cosine"] == pytest.approx(1)
    assert run.provenance["tags"] == ["external predictions"]
    assert run.provenance["trained_on"] == run.spec["params"]["trained_on"] == "tiny S1"
    board = (tmp_path / "runs" / "leaderboards" / "tiny" / "embedding.md").read_text()
    assert "| 1 | [mine](cards/mine.md#tiny) |" in board
    assert "*external predictions*: made elsewhere" in board
    stamp = (run.path / "scores.json").stat().st_mtime_ns
    assert score(*arguments)[0] == 0  # kept
    assert (run.path / "scores.json").stat().st_mtime_ns == stamp
    assert len(list(Store(tmp_path / "runs").runs())) == 1
    code, _, err = score(pictures, "--order", "split", "--name", "mine", path="pictures.npy")
    assert code == 2
    assert "the store has it in the embedding track" in err


def test_the_scores_are_those_of_a_method_that_predicts_the_same(score, bench, data, tmp_path):
    """The oracle's own pictures and vectors, given from outside, score as in its run, centred metrics included."""
    root, truth, pictures = data
    noisy = truth + np.random.default_rng(0).standard_normal(truth.shape).astype(np.float32)
    (tmp_path / "given.py").write_text(
        "import numpy as np\n"
        "from benchmark import Method, Predictions\n"
        "class Given(Method):\n"
        "    name, tracks, oracle = 'given', frozenset({'embedding', 'reconstruction'}), True\n"
        "    def train(self, train, **more): pass\n"
        "    def predict(self, fmri, truth):\n"
        f"        noisy = dict(zip({IDS}, np.load({str(tmp_path / 'noisy.npy')!r})))\n"
        "        return Predictions(embeddings={'latent': np.stack([noisy[i] for i in truth.ids])},\n"
        "                           images=255 - truth.images)\n"
    )
    np.save(tmp_path / "noisy.npy", noisy)
    np.save(tmp_path / "inverse.npy", 255 - pictures)
    code, _, err = bench(
        *("run", "--plugin", tmp_path / "given.py", "--method", "given", "--dataset", "tiny", "--data", root),
        *("--subject", "S1", "--store", tmp_path / "own"),
    )
    assert code == 0, err
    assert score(noisy, tmp_path / "inverse.npy", "--order", "split")[0] == 0
    for track in ("embedding", "reconstruction"):
        assert metrics(tmp_path, track) == pytest.approx(metrics(tmp_path, track, "own"), abs=1e-12)


def test_ids_are_shown_in_the_order_of_the_split(bench, data):
    assert bench("score", "--show-ids", "--dataset", "tiny", "--data", data[0], "--subject", "S1")[:2] == (
        0,
        "\n".join(IDS) + "\n",
    )


# --- forms of pictures and files, without scoring --------------------------------------------------------------------


@pytest.fixture
def staged(score, monkeypatch):
    """Call the verb up to the point where the run would start; returns what the run would be given."""
    from benchmark import runner, worker

    class Stop(Exception):
        pass

    def stop(planned, session):
        found = worker.restore(Path(planned[0].job.options["staged"]) / "fold0")
        raise Stop({k: np.array(v) for k, v in {"images": found.images, **found.embeddings}.items() if v is not None})

    monkeypatch.setattr(runner, "run_all", stop)

    def call(*arguments, **more):
        with pytest.raises(Stop) as caught:
            score(*arguments, **more)
        return caught.value.args[0]

    return call


def in_items_order(data, values):
    """Bring rows from the split's order to that of the test responses."""
    from benchmark.data import folder, prepare

    dataset = folder.load(data[0], data[0].parent / "cache")
    (fold,) = prepare.folds(dataset, folder.read_splits(data[0])["main"], "S1")
    return values[prepare.test_items(fold).stimulus - (N - TEST)]


def test_forms_of_pictures(staged, data, tmp_path):
    pictures = data[2]
    expected = in_items_order(data, pictures)
    first = np.moveaxis(pictures, -1, 1)
    split = ("--order", "split")
    forms = {
        "last.npy": pictures,
        "first.npy": first,
        "float.npy": pictures / 255,
        "single.npy": (pictures / 255).astype(np.float32),
        "one.npz": {"anything": pictures},
        "named.npz": {"ids": np.array(IDS[::-1]), "images": pictures[::-1]},
        "tensor.pt": torch.from_numpy(first / np.float32(255)),
        "dict.pt": {"recons": torch.from_numpy(pictures.copy()), "epoch": 3},
        "named.pt": {"ids": IDS, "recons": torch.from_numpy(pictures.copy())},
    }
    for name, value in forms.items():
        found = staged(value, *(() if "named" in name else split), path=name)["images"]
        np.testing.assert_array_equal(found, expected, err_msg=name)
    found = staged({"a": torch.zeros(2, 2), "b": torch.from_numpy(first / 255)}, *split, "--key", "b", path="two.pt")
    np.testing.assert_array_equal(found["images"], expected)
    half = staged((pictures / 255).astype(np.float16), *split, path="half.npy")["images"]
    assert np.abs(half.astype(int) - expected).max() <= 1
    brain = torch.from_numpy(pictures / 255).to(torch.bfloat16)
    assert np.abs(staged(brain, *split, path="brain.pt")["images"].astype(int) - expected).max() <= 1
    grey = staged(pictures[..., :1], *split, path="grey.npy")["images"]
    np.testing.assert_array_equal(grey, expected[..., :1].repeat(3, axis=-1))


def test_folders_of_pictures(staged, data, tmp_path):
    pictures = data[2]
    expected = in_items_order(data, pictures)
    write_pictures(tmp_path / "ids", pictures, [f"recon_{name}-final.png" for name in IDS])
    write_pictures(tmp_path / "plain", pictures[::-1], [f"{name}.png" for name in IDS[::-1]])
    write_pictures(tmp_path / "numbers", pictures, [f"{i * 3}.png" for i in range(TEST)])
    (tmp_path / "ids.json").write_text(json.dumps(IDS))
    (tmp_path / "ids.csv").write_text("row,stimulus_id\n" + "".join(f"{i},{name}\n" for i, name in enumerate(IDS)))
    (tmp_path / "other.json").write_text(json.dumps(IDS[::-1]))
    for folder, options in {
        "ids": (),
        "./ids": ("--ids", tmp_path / "other.json"),  # for another file of the same call: names count
        "./plain": ("--order", "split"),
        "plain": (),
        "numbers": ("--order", "split"),
        "./numbers": ("--ids", tmp_path / "ids.json"),
        "../" + tmp_path.name + "/numbers": ("--ids", tmp_path / "ids.csv"),
    }.items():
        np.testing.assert_array_equal(staged(None, *options, path=folder)["images"], expected, err_msg=folder)


def test_forms_of_vectors(staged, data):
    truth = data[1]
    expected = in_items_order(data, truth)
    for name, value in {"a.npy": truth.astype(np.float64), "b.pt": torch.from_numpy(truth.copy())}.items():
        np.testing.assert_array_equal(staged(value, "--order", "split", path=name)["latent"], expected)
    whole = np.rint(10 * truth).astype(np.int64)
    found = staged(whole, "--order", "split", path="c.npy")["latent"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, in_items_order(data, whole))


# --- what is refused -------------------------------------------------------------------------------------------------


def changed(values, index, value):
    values = values.copy()
    values[index] = value
    return values


WRONG_PICTURES = {
    "too few": (lambda p: p[:-1], "7 predictions, expected 8"),
    "too many": (lambda p: np.concatenate([p, p[:1]]), "9 predictions, expected 8"),
    "empty": (lambda p: p[:0], "expected numbers"),
    "one": (lambda p: p[0], "shape (16, 16, 3)"),
    "0 to 255 as float": (lambda p: p.astype(np.float32), "expected floats in [0, 1]"),
    "-1 to 1": (lambda p: p / 127.5 - 1, "expected floats in [0, 1]"),
    "cut floats": (lambda p: (p // 255).astype(np.uint8), "no pixel is above 1"),
    "divided twice": (lambda p: p / 255 / 255, "expected floats from 0 to 1"),
    "black": (lambda p: np.zeros(p.shape), "no pixel is above 0"),
    "half of 0 to 255": (lambda p: p.astype(np.float16), "expected floats in [0, 1]"),
    "grey without an axis": (lambda p: p[..., 0], "shape (8, 16, 16), expected vectors (n, d) or pictures"),
    "16 bits": (lambda p: p.astype(np.uint16) * 257, "pixels of type uint16"),
    "whole numbers": (lambda p: p.astype(np.int64), "pixels of type int64"),
    "overflowed": (lambda p: p.astype(np.int8), "pixels of type int8"),
    "alpha": (lambda p: np.concatenate([p, p[..., :1]], -1), "no alpha"),
    "channels twice": (lambda p: p[:, :3], "second or the last axis"),
    "NaN": (lambda p: changed(p / 255, 3, np.nan), "NaN or infinity"),
    "infinity": (lambda p: changed(p / 255, (2, 1), np.inf), "NaN or infinity"),
    "truth values": (lambda p: p > 9, "expected numbers"),
    "complex": (lambda p: p.astype(complex), "expected numbers"),
    "objects": (lambda p: p.astype(object), "expected"),
}


@pytest.mark.parametrize("what", WRONG_PICTURES)
def test_wrong_pictures_are_refused(score, data, tmp_path, what):
    change, sentence = WRONG_PICTURES[what]
    refused(score(change(data[2]), "--order", "split"), tmp_path, sentence)


WRONG_VECTORS = {
    "too few": (lambda v: v[1:], "7 predictions"),
    "another space": (lambda v: np.concatenate([v, v], 1), "vectors of 10 dimensions, the space latent has 5"),
    "NaN": (lambda v: changed(v, (0, 0), np.nan), "NaN or infinity"),
    "too large": (lambda v: v.astype(np.float64) * 1e300, "NaN or infinity"),
    "text": (lambda v: v.astype(str), "expected numbers"),
    "empty": (lambda v: v[:0], "expected numbers"),
    "one": (lambda v: v[:1], "1 predictions, expected 8"),
    "too large for half": (lambda v: changed(v.astype(np.float16), (0, 1), np.inf), "NaN or infinity"),
    "truth values": (lambda v: v > 0, "expected numbers"),
    "complex": (lambda v: v.astype(complex), "expected numbers"),
    "one axis": (lambda v: v[0], "shape (5,)"),
    "three axes": (lambda v: v[:, None], "shape (8, 1, 5)"),
}


@pytest.mark.parametrize("what", WRONG_VECTORS)
def test_wrong_vectors_are_refused(score, data, tmp_path, what):
    change, sentence = WRONG_VECTORS[what]
    refused(score(change(data[1]), "--order", "split"), tmp_path, sentence)


WRONG_IDS = {
    "none given": (None, "its rows have no ids"),
    "too few": (IDS[:-1], "7 ids, expected 8"),
    "twice": ([*IDS[:-1], IDS[0]], "'stim016' is there twice"),
    "of the training side": (["stim000", *IDS[1:]], "'stim000', expected 'stim016' among them"),
    "positions": ([str(i) for i in range(TEST)], "8 of its ids are no test item's"),
}


@pytest.mark.parametrize("what", WRONG_IDS)
def test_wrong_ids_are_refused(score, data, tmp_path, what):
    ids, sentence = WRONG_IDS[what]
    (tmp_path / "ids.txt").write_text("\n".join(ids or ()))
    refused(score(data[1], *(("--ids", tmp_path / "ids.txt") if ids else ())), tmp_path, sentence)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("ids.json", "{}", "expected a list"),
        ("ids.json", "[", "not valid JSON"),
        ("ids.csv", "a,b\n1,2\n", "expected one named stimulus_id"),
        ("ids.txt", None, "cannot be read"),
    ],
)
def test_files_of_ids_that_are_none(score, data, tmp_path, name, content, sentence):
    if content is not None:
        (tmp_path / name).write_text(content)
    refused(score(data[1], "--ids", tmp_path / name), tmp_path, sentence)


@pytest.mark.parametrize(
    ("names", "options", "sentence"),
    [
        ([f"{i}.png" for i in range(TEST)], (), "carries no test item's id"),
        ([*(f"{name}.png" for name in IDS[:-1]), "stim016_stim017.png"], (), "carries the ids stim016 and stim017"),
        ([*(f"{name}.png" for name in IDS[:-1]), "x_stim016.png"], (), "is there twice"),
        ([f"{name}1.png" for name in IDS], (), "carries no test item's id"),
        ([f"{i}_of_8.png" for i in range(TEST)], ("--order", "split"), "2 numbers in its name"),
        (["01.png", *(f"{i}.png" for i in range(1, TEST))], ("--order", "split"), "the same number"),
    ],
)
def test_names_that_do_not_say_which_item(score, data, tmp_path, names, options, sentence):
    write_pictures(tmp_path / "folder", data[2], names)
    refused(score(None, *options, path="folder"), tmp_path, sentence)


def test_pictures_that_cannot_be_taken(score, data, tmp_path):
    names = [f"{name}.png" for name in IDS]
    write_pictures(tmp_path / "folder", data[2], names)
    Image.fromarray(data[2][0][:8]).save(tmp_path / "folder" / names[0])
    refused(score(None, path="folder"), tmp_path, "expected (8, 16, 3) as of the first")
    clear = np.concatenate([data[2][0], np.full((16, 16, 1), 255, np.uint8)], -1)
    clear[0, 0, 3] = 254
    Image.fromarray(clear).save(tmp_path / "folder" / names[0])
    refused(score(None, path="folder"), tmp_path, "transparent pixels")
    (tmp_path / "folder" / names[0]).write_bytes(b"no picture")
    refused(score(None, path="folder"), tmp_path, "cannot be read")
    (tmp_path / "empty").mkdir()
    refused(score(None, path="empty"), tmp_path, "holds no picture")


def test_files_that_cannot_be_read_or_would_run_code(score, data, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save(Evil(), tmp_path / "evil.pt")
    np.save(tmp_path / "evil.npy", np.array([Evil()], object), allow_pickle=True)
    np.savez(tmp_path / "evil.npz", a=np.array([Evil()], object))
    for name in ("a.pt", "a.npz", "a.npy"):
        (tmp_path / name).write_bytes(b"something else")
    (tmp_path / "a.txt").write_text("1 2 3")
    for name in ("evil.pt", "evil.npy", "evil.npz", "a.pt", "a.npz", "a.npy", "a.txt", "none.npy"):
        refused(score(None, "--order", "split", path=name), tmp_path, name)
    assert not (tmp_path / "ran").exists()
    refused(score({"a": data[1], "b": data[1]}, "--order", "split", path="two.npz"), tmp_path, "expected --key")
    rows = [torch.from_numpy(row) for row in data[2]]
    refused(score(rows, "--order", "split", path="list.pt"), tmp_path, "no array at its top level, expected one with")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--name", "ridge", "--order", "split"), "has a method of that name"),
        (("--name", "a/b", "--order", "split"), "expected a name of letters"),
        (("--track", "reconstruction", "--order", "split"), "holds vectors"),
        (("--order", "split", "--ids", "ids.txt"), "exclude each other"),
        (("--suite", "mini", "--order", "split"), "unknown dataset"),
        (("--device", "cuda:99", "--order", "split"), "--device"),
    ],
)
def test_wrong_options_are_refused(score, data, tmp_path, options, sentence):
    code, out, err = score(data[1], *options)
    assert (code, out) == (2, "")
    assert sentence in err or "expected one of them named" in err
    assert not (tmp_path / "runs").exists()


def test_an_unknown_subject_and_no_path_are_refused(score, bench, data, tmp_path):
    refused(score(data[1], "--order", "split", subject="S9"), tmp_path, "S9")
    code, _, err = bench("score", "--dataset", "tiny", "--data", data[0], "--subject", "S1")
    assert (code, err) == (2, "error: no predictions given, expected PATH\n")


# --- a wrong order ---------------------------------------------------------------------------------------------------


def vectors(n, d=12, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    true, spare = rng.standard_normal((n, d)), rng.standard_normal((3 * n, d))
    return true, true + noise * rng.standard_normal((n, d)), spare


def noted(true, predicted, spare, seed=9):
    return alignment.note(true, predicted, spare, np.random.default_rng(seed))


@pytest.mark.parametrize("shift", [-10, -1, 1, 7])
def test_moved_rows_are_found(shift):
    true, predicted, _ = vectors(60)
    text = noted(true, np.roll(predicted, -shift, axis=0), None)
    assert f"when each is moved by {shift:+d} " in text


@pytest.mark.parametrize("noise", [0.0, 0.3, 0.8])
def test_another_order_is_found(noise):
    true, predicted, spare = vectors(60, noise=noise)
    predicted = np.random.default_rng(1).permutation(predicted)
    assert "in the best order" in noted(true, predicted, spare)
    assert noted(true, predicted, None) == ""
    assert noted(true, predicted, spare[:59]) == ""


def test_right_order_is_left_alone():
    for noise in (0.0, 1.0, 4.0):
        assert noted(*vectors(60, noise=noise)) == ""


def unrelated(seed):
    """Predictions without information: noise, collapsed, the targets of other stimuli, and clusters of both."""
    rng = np.random.default_rng(seed)
    true, _, spare = vectors(40, seed=seed)
    kinds = rng.standard_normal((4, 12)) * 3
    grouped, others = (x + kinds[rng.integers(0, 4, len(x))] for x in (true, spare))
    yield true, rng.standard_normal(true.shape), spare
    yield true, rng.standard_normal((1, 12)) + 1e-3 * rng.standard_normal(true.shape), spare
    yield true, spare[rng.permutation(len(spare))[:40]], rng.standard_normal(spare.shape)
    yield grouped, kinds[rng.integers(0, 4, 40)], others


def test_the_best_of_many_orders_is_not_taken_for_signal():
    found = [noted(*case, seed=seed) for seed in range(12) for case in unrelated(seed)]
    # a level of .01 for the best order and of .001 for moves: of 48, four or more have probability .002
    assert sum(map(bool, found)) <= 3, found


def test_few_items_and_one_answer_are_left_alone():
    true, predicted, spare = vectors(7)
    assert noted(true, predicted[::-1], spare) == ""
    true, _, spare = vectors(40)
    assert noted(true, np.ones_like(true), spare) == ""


def test_the_verb_warns_of_moved_rows_and_keeps_the_warning(score, data, tmp_path):
    pictures = data[2]
    code, out, _ = score(np.roll(pictures, 1, axis=0), "--order", "split")
    assert code == 0
    assert "warning: the rows are probably in another order" in out
    assert "moved by -1" in out
    (run,) = Store(tmp_path / "runs").runs()
    assert "moved by -1" in run.scores["notes"]["order (reconstruction)"]


def test_pictures_are_compared_small_and_in_proportion():
    pictures = np.random.default_rng(0).integers(0, 256, (3, 128, 96, 3), dtype=np.uint8)
    small = alignment.small(pictures, 128, 96)
    assert small.shape == (3, 3 * 64 * 64)
    np.testing.assert_allclose(small.mean(), pictures.mean(), rtol=0.01)
    np.testing.assert_array_equal(
        alignment.small(pictures[:, :5, :7], 5, 7), np.moveaxis(pictures[:, :5, :7], -1, 1).reshape(3, -1)
    )


def test_a_model_that_saw_the_test_pictures_is_refused(score, data, tmp_path):
    root, truth, _ = data
    for file in (*root.rglob("*.csv"), *root.rglob("splits/*.json")):
        file.write_text(re.sub(r"stim(\d{3})", r"nsd00\1", file.read_text()))
    split = root / "splits" / "main.json"
    content = json.loads(split.read_text())
    split.write_text(json.dumps({**content, "sha256": split_checksum(content)}))
    given = truth, "--order", "split", "--trained-on"
    refused(score(*given, "algonauts2023"), tmp_path, "--trained-on algonauts2023", "expected a model that never saw")
    assert score(*given, "my own pictures")[0] == 0
