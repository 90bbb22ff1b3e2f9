"""Mappings that NumPy pickled are read without running anything."""

import io
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.data.pickled_dict import MAX_BYTES, read_pickled_dict
from benchmark.errors import BenchError
from tests.helpers.pickled import Evil, write_object


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.integers(), st.text(max_size=20), max_size=20), st.integers(3, 5))
def test_a_mapping_is_read_back(tmp_path_factory, value, protocol):
    path = tmp_path_factory.getbasetemp() / "mapping.npy"
    np.save(path, value, allow_pickle=True)
    assert read_pickled_dict(path) == value
    assert read_pickled_dict(write_object(path, value, protocol)) == value


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_a_mapping_of_any_numpy(tmp_path, module):
    path = write_object(tmp_path / "m.npy", {1: "V1v"}, protocol=3)
    content = path.read_bytes()
    assert content.count(b".multiarray\n_reconstruct") == 1
    start = content.index(b"cnumpy") + 1
    end = content.index(b"\n_reconstruct")
    path.write_bytes(content[:start] + module + content[end:])
    assert read_pickled_dict(path) == {1: "V1v"}


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: {1: e}, lambda e: {1: "V1v", 2: [e]}])
def test_nothing_in_a_mapping_is_run(tmp_path, protocol, wrap):
    trace = tmp_path / "trace"
    path = write_object(tmp_path / "mapping.npy", wrap(Evil(trace)), protocol)
    with pytest.raises(BenchError, match=r"mapping.npy: refused \(it asks for (posix|nt).mkdir\), expected a dict"):
        read_pickled_dict(path)
    assert not trace.exists()
    np.load(path, allow_pickle=True)  # it would have
    assert trace.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("numpy", "load"),
        ("numpy", "ndarray.tofile"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "fromstring"),
        ("copyreg", "_reconstructor"),
    ],
)
def test_only_three_names_pass(tmp_path, module, name):
    path = tmp_path / "mapping.npy"
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|O", "fortran_order": False, "shape": ()})
    text = [b"\x8c" + bytes([len(part)]) + part for part in (module.encode(), name.encode())]
    path.write_bytes(out.getvalue() + b"\x80\x04" + text[0] + text[1] + b"\x93)R.")  # STACK_GLOBAL, call, stop
    with pytest.raises(BenchError, match=f"refused \\(it asks for {module}.{name}\\)"):
        read_pickled_dict(path)


@pytest.mark.parametrize(
    "value",
    [
        {"V1v": 1},
        {1: 2},
        {True: "V1v"},
        {1.0: "V1v"},
        {1: b"V1v"},
        {1: {2: "V1v"}},
        [(1, "V1v")],
        "V1v",
        None,
    ],
)
def test_a_mapping_is_a_dict_of_whole_numbers_to_texts(tmp_path, value):
    path = write_object(tmp_path / "mapping.npy", value)
    with pytest.raises(BenchError, match=r"mapping.npy: holds something else, expected a dict of whole numbers to"):
        read_pickled_dict(path)


def test_other_files_are_no_mapping(tmp_path):
    path = tmp_path / "m.npy"
    with pytest.raises(BenchError, match="no such file"):
        read_pickled_dict(path)
    np.save(path, np.arange(3))
    with pytest.raises(BenchError, match=r"int64 array of shape \(3,\), expected a dict"):
        read_pickled_dict(path)
    np.save(path, np.array([{1: "a"}, {2: "b"}]), allow_pickle=True)
    with pytest.raises(BenchError, match=r"object array of shape \(2,\), expected a dict"):
        read_pickled_dict(path)
    path.write_bytes(pickle.dumps({1: "a"}))
    with pytest.raises(BenchError, match="damaged"):
        read_pickled_dict(path)
    whole = write_object(path, {1: "V1v", 2: "V1d"}).read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(BenchError, match=r"damaged|refused"):
            read_pickled_dict(path)
    np.save(path, {1: "a" * MAX_BYTES}, allow_pickle=True)
    with pytest.raises(BenchError, match="more than 65536 bytes"):
        read_pickled_dict(path)
