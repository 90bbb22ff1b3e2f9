"""Files as CogniVal publishes them become a folder dataset, matched by word; bad ones become one sentence."""

import json

import numpy as np
import pytest

from benchmark.data import folder
from benchmark.data.imports import KINDS
from benchmark.data.splits import read_split

N = 36
WORDS = [f"word{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(N)]


@pytest.fixture
def made(tmp_path):
    """Two participants as text (P2 in another order of words) and as an archive, and their vectors."""
    rng = np.random.default_rng(0)
    data = {name: rng.standard_normal((N, n)).astype(np.float32) for name, n in (("P1", 6), ("P2", 4))}
    vectors = rng.standard_normal((N, 5)).astype(np.float32)
    (tmp_path / "text").mkdir()
    write_text(tmp_path / "text/scaled_6_pereira_targets_P1.txt", WORDS, data["P1"])
    turned = list(range(N))[::-1]
    write_text(
        tmp_path / "text/scaled_6_pereira_targets_P2.txt", [WORDS[i] for i in turned], data["P2"][turned], "voxel"
    )
    np.savez(tmp_path / "both.npz", words=np.array(WORDS), **data)
    np.savetxt(tmp_path / "vectors.txt", vectors, fmt="%.9g")
    (tmp_path / "words.txt").write_text("\n".join(WORDS) + "\n")
    lines = ["the 1 2 3 4 5", *(f"{w} {' '.join(map(repr, v.tolist()))}" for w, v in zip(WORDS, vectors, strict=True))]
    (tmp_path / "glove.txt").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    return data, vectors


def write_text(path, words, values, name="v"):
    header = " ".join(["word", *(f"{name}{i}" for i in range(values.shape[1]))])
    rows = [f"{w} {' '.join(map(repr, row.tolist()))}" for w, row in zip(words, values, strict=True)]
    path.write_text("\n".join([header, *rows]) + "\n")


def convert(bench, *sources, out="out", vectors="vectors.txt", words="words.txt"):
    more = ("--words", words) if words else ()
    return bench("data", "import", "cognival", *sources, "--vectors", vectors, *more, "--out", out)


@pytest.mark.parametrize(
    ("sources", "vectors", "words"),
    [
        (["both.npz"], "vectors.txt", "words.txt"),
        (["text"], "glove.txt", None),
        (["text/scaled_6_pereira_targets_P2.txt", "text/scaled_6_pereira_targets_P1.txt"], "glove.txt", None),
    ],
)
def test_every_source_gives_each_word_its_own_responses_and_vector(bench, made, tmp_path, sources, vectors, words):
    code, out, err = convert(bench, *sources, vectors=vectors, words=words)
    assert code == 0, err
    assert "2 subjects (P1, P2), 36 stimuli, 4 to 6 voxels" in out
    data, truth = made
    found = folder.load(tmp_path / "out", tmp_path / "cache")
    assert found.name == "out"
    assert found.tags == ("transductive scaling",)
    assert {"source", "scaling", "licence", "citation", "files", "vectors"} <= set(found.provenance)
    place = {word: i for i, word in enumerate(WORDS)}
    order = [place[w] for w in found.stimuli.words.tolist()]
    np.testing.assert_array_equal(found.stimuli.embeddings["glove"], truth[order])
    for name, responses in data.items():
        subject = found.load_subject(name)
        shown = [place[w] for w in found.stimuli.ids[subject.stimulus].tolist()]
        np.testing.assert_array_equal(subject.responses, responses[shown])
    assert bench("data", "check", "out")[0] == 0


def test_folds_hold_out_every_word_once(bench, made, tmp_path):
    convert(bench, "both.npz")
    split = read_split(tmp_path / "out/splits/leave-words-out.json")
    folds = split.for_subject("P1")
    assert (split.unit, len(folds), {len(f.test) for f in folds}) == ("stimulus", 18, {2})
    assert sorted(w for f in folds for w in f.test) == sorted(WORDS)
    assert [s for s in json.loads((tmp_path / "out/dataset.json").read_text())["splits"]] == [
        "splits/leave-words-out.json"
    ]


def test_an_existing_folder_and_a_name_of_benchs_own_are_refused(bench, made, tmp_path):
    (tmp_path / "out").mkdir()
    code, _, err = convert(bench, "both.npz")
    assert (code, list((tmp_path / "out").iterdir())) == (2, [])
    assert "out: already there" in err
    for name in ("synthetic-words", "mini", "leaderboards", "no name"):
        code, _, err = convert(bench, "both.npz", out=name)
        assert (code, len(err.strip().splitlines())) == (2, 1)
        assert not (tmp_path / name).exists()


def remake(tmp_path, **arrays):
    np.savez(tmp_path / "both.npz", **({"words": np.array(WORDS)} | arrays))


FAULTS = {
    "no source": (lambda p: (p / "both.npz").unlink(), "both.npz: no such file"),
    "cut": (lambda p: (p / "both.npz").write_bytes((p / "both.npz").read_bytes()[:-40]), "both.npz: cannot be read"),
    "pickled": (
        lambda p: remake(p, P1=np.array([[object()]] * N)),
        "both.npz: cannot be read",
    ),
    "no words": (lambda p: np.savez(p / "both.npz", P1=np.ones((N, 3))), "expected an .npz file with 'words'"),
    "rows": (lambda p: remake(p, P1=np.ones((N - 1, 3))), "P1 is a float64 array of shape (35, 3)"),
    "NaN": (lambda p: remake(p, P1=np.full((N, 3), np.nan)), "P1 holds NaN or infinity for 'wordaa'"),
    "out of the folder": (lambda p: remake(p, **{"../P1": np.ones((N, 3))}), "participant '../P1'"),
    "twin": (
        lambda p: remake(p, words=np.array([WORDS[0], *WORDS[:-1]]), P1=np.ones((N, 3))),
        "word 'wordaa' is there 2 times",
    ),
    "few words": (
        lambda p: np.savez(p / "both.npz", words=np.array(WORDS[:35]), P1=np.ones((35, 3))),
        "35 words, expected at least 36",
    ),
    "constant": (lambda p: remake(p, P1=np.ones((N, 3))), "no voxel left, all are NaN or constant"),
    "vectors missing": (lambda p: (p / "vectors.txt").unlink(), "vectors.txt: no such file"),
    "vector not numbers": (
        lambda p: (p / "vectors.txt").write_text((p / "vectors.txt").read_text().replace(".", "x", 1)),
        "the vector of 'wordaa' is not numbers",
    ),
    "vector short": (
        lambda p: (p / "vectors.txt").write_text((p / "vectors.txt").read_text().partition(" ")[2]),
        "expected one length",
    ),
    "vector NaN": (
        lambda p: np.savetxt(p / "vectors.txt", np.full((N, 5), np.nan)),
        "a vector holds NaN or infinity",
    ),
    "a vector more": (
        lambda p: (p / "vectors.txt").write_text((p / "vectors.txt").read_text() + "1 2 3 4 5\n"),
        "37 vectors, expected 36",
    ),
    "another word": (
        lambda p: (p / "words.txt").write_text((p / "words.txt").read_text().replace("wordab", "ability")),
        "words.txt: lacks 1 of 36 words, the first 'wordab'",
    ),
    "not text": (lambda p: (p / "words.txt").write_bytes(b"\xff\xfe\x00"), "words.txt: not UTF-8 text"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_one_sentence_and_nothing_is_written(bench, made, tmp_path, fault):
    change, sentence = FAULTS[fault]
    change(tmp_path)
    before = sorted(tmp_path.iterdir())
    code, out, err = convert(bench, "both.npz")
    assert (code, out) == (2, "")
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


TEXT_FAULTS = {
    "no header": (lambda text: text.partition("\n")[2], "no header line 'word v0 v1 ...'"),
    "empty": (lambda text: "", "no header line 'word v0 v1 ...'"),
    "no row": (lambda text: text.partition("\n")[0], "no row, expected one per word"),
    "short row": (lambda text: text.rstrip().rpartition(" ")[0], "6 cells in line 37, expected 7"),
    "not numbers": (lambda text: text.replace(" 0.", " o.", 1), "is not numbers"),
    "other words": (lambda text: text.replace("wordaa", "else"), "the words of participant P1 differ from those of P2"),
}


@pytest.mark.parametrize("fault", TEXT_FAULTS)
def test_a_damaged_text_file_is_named(bench, made, tmp_path, fault):
    change, sentence = TEXT_FAULTS[fault]
    path = tmp_path / "text/scaled_6_pereira_targets_P1.txt"
    path.write_text(change(path.read_text()))
    code, _, err = convert(bench, "text/scaled_6_pereira_targets_P2.txt", path)
    assert code == 2
    assert sentence in err
    assert "targets_P1.txt" in err
    assert not (tmp_path / "out").exists()


def test_a_participant_may_come_from_one_file_only(bench, made, tmp_path):
    code, _, err = convert(bench, "both.npz", "text")
    assert code == 2
    assert "participant P1 is also in" in err
    (tmp_path / "empty").mkdir()
    assert "holds no such file" in convert(bench, "empty")[2]
    assert "expected a .txt or .npz file" in convert(bench, "vectors.csv")[2]
    assert "needs --words" in convert(bench, "both.npz", words=None)[2]


def test_kinds_on_the_command_line_are_those_of_the_table(bench):
    from benchmark.cli import IMPORTS

    assert tuple(KINDS) == IMPORTS
    code, out, _ = bench("data", "import", "--help")
    assert code == 0
    assert all(kind in out for kind in KINDS)


@pytest.mark.parametrize("ranked", ["two_way", "collapse", 3])
def test_a_track_may_be_ranked_only_by_a_metric_it_has(tiny, ranked):
    path = tiny / "dataset.json"
    header = json.loads(path.read_text())
    header["tracks"]["words"]["ranked"] = ranked
    path.write_text(json.dumps(header))
    (fault,) = folder.check(tiny)
    assert "tracks.words.ranked is" in fault


def test_a_folder_is_ranked_by_the_metric_of_its_header(bench, tiny, tmp_path):
    path = tiny / "dataset.json"
    header = json.loads(path.read_text())
    header["tracks"] = {
        "words": {"space": "latent", "ranked": "rank_accuracy"},
        "reconstruction": {"ranked": "ssim"},
        "embedding": {"space": "latent"},
    }
    path.write_text(json.dumps(header))
    assert bench("run", "--data", tiny, "--method", "mean")[0] == 0
    for track, metric in (("words", "rank_accuracy"), ("reconstruction", "ssim"), ("embedding", "two_way")):
        assert f"Ranked by **{metric}** ↑" in (tmp_path / f"runs/leaderboards/tiny/{track}.md").read_text()
