"""The header reader: what the library refuses is one line, and no more is taken than a model can have."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save

from vaebench.core.errors import DataError
from vaebench.models import card as cards
from vaebench.models import loading, safetensors_header
from vaebench.models.safetensors_header import MAX_HEADER, Entry

GOOD = {
    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "b": {"dtype": "BOOL", "shape": [], "data_offsets": [8, 9]},
    "none": {"dtype": "F64", "shape": [3, 0], "data_offsets": [9, 9]},
    "c": {"dtype": "I16", "shape": [1, 2], "data_offsets": [9, 13]},
}


def pack(header: object, payload: int = 13) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(payload)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.safetensors"


def test_a_header_is_read(path: Path) -> None:
    path.write_bytes(pack({"__metadata__": {"digest": "x"}, **GOOD}))
    found = safetensors_header.read(path)
    assert found == {n: Entry(e["dtype"], tuple(e["shape"]), *e["data_offsets"]) for n, e in GOOD.items()}  # type: ignore[arg-type, misc]
    path.write_bytes(pack(json.dumps(GOOD).encode() + b"   "))  # padding, as the format has it
    assert safetensors_header.read(path) == found


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool])
def test_what_the_library_writes_is_read_alike(dtype: torch.dtype, path: Path) -> None:
    path.write_bytes(save({"a": torch.zeros(3, 4).to(dtype), "b": torch.zeros(()).to(dtype)}))
    assert {n: e.shape for n, e in safetensors_header.read(path).items()} == {"a": (3, 4), "b": ()}


def test_the_zoos_weights_pass() -> None:
    for dataset, name in cards.ids():
        if dataset == "digits":
            weights = cards.find(name, dataset).weights_path()
            found = {n: tuple(t.shape) for n, t in loading.read_tensors(weights).items()}
            assert {n: e.shape for n, e in safetensors_header.read(weights).items()} == found


def changed(name: str, **changes: Any) -> bytes:
    return pack({**GOOD, name: {**GOOD[name], **changes}})


LIES: dict[str, tuple[bytes, str]] = {
    "no bytes": (b"", "it has 0 bytes, too few"),
    "half a length": (b"\0" * 7, "it has 7 bytes, too few"),
    "length beyond the file": (struct.pack("<Q", 10**6) + b"{}", "invalid header length"),
    "length beyond memory": (struct.pack("<Q", 2**63) + b"{}", "claims 9223372036854775808 bytes; at most"),
    "length beyond the limit": (struct.pack("<Q", MAX_HEADER + 1) + bytes(MAX_HEADER + 2), "at most 4194304"),
    "no header": (struct.pack("<Q", 0), "invalid JSON"),
    "a list": (pack([], 0), "invalid type: sequence"),
    "not JSON": (pack(b"{abcd", 0), "key must be a string"),
    "not text": (pack(b'{"\xff": 0}', 0), "invalid UTF-8"),
    "deep": (pack(b'{"a":' * 10**5, 0), "recursion limit"),
    "long number": (pack(b'{"a":' + b"9" * 5000 + b"}", 0), "number out of range"),
    "a key twice": (pack(b'{"a":1,"a":2}', 0), "invalid type: integer `1`"),
    "a key of a tensor twice": (pack(b'{"a":{"shape":[1],"shape":[2]}}', 0), "duplicate field `shape`"),
    "metadata": (pack({**GOOD, "__metadata__": {"a": 1}}), "expected a string"),
    "a tensor that is none": (pack({"a": 0}, 0), "invalid type: integer `0`"),
    "no shape": (pack({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, 4), "missing field `shape`"),
    "dtype": (changed("a", dtype="F8_E4M3", shape=[8]), "dtype F8_E4M3, which weights cannot have: F64, F32"),
    "dtype of a list": (changed("a", dtype=["F32"]), "expected string or map"),
    "negative shape": (changed("a", shape=[-2, -1]), "integer `-2`, expected usize"),
    "shape of floats": (changed("a", shape=[2.0]), "floating point `2.0`, expected usize"),
    "shape of bools": (changed("a", shape=[True, 2]), "boolean `true`, expected usize"),
    "shape of numbers": (changed("a", shape=2), "expected a sequence"),
    "shape of much text": (changed("a", shape="x" * 10**6), 'invalid type: string "xxx'),
    "shape of NaN": (pack(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', 8), "expected value"),
    "shape of many axes": (changed("a", shape=[1] * 99 + [2]), "'a' has shape [1, 1, 1, 1, 1, 1, ...], which no"),
    "shape of no bytes": (changed("none", shape=[0, 2**63]), "'none' has shape [0, 9223372036854775808], which no"),
    "shape of any rank": (changed("a", shape=[2**62] * 10**5), "overflow computing buffer size"),
    "shape beyond memory": (changed("a", shape=[2**62, 4]), "overflow computing buffer size"),
    "shape too large": (changed("a", shape=[3]), "invalid shape, data type, or offset"),
    "shape too small": (changed("a", shape=[1]), "invalid shape, data type, or offset"),
    "three offsets": (changed("a", data_offsets=[0, 8, 8]), "invalid length 3, expected 2 elements"),
    "offsets backwards": (changed("a", data_offsets=[8, 0]), "invalid offset for tensor `a`"),
    "overlap": (changed("c", data_offsets=[8, 12]), "invalid offset for tensor `c`"),
    "two in one place": (pack({"a": GOOD["a"], "b": GOOD["a"]}, 8), "invalid offset for tensor"),
    "gap": (changed("c", data_offsets=[10, 14]), "invalid offset for tensor `c`"),
    "gap at the start": (pack({"c": GOOD["c"]}), "invalid offset for tensor `c`"),
    "a name that moves the cursor": (pack({"a\x1b[2J\n": GOOD["c"]}), "invalid offset for tensor `a [2J `"),
    "truncated": (pack(GOOD)[:-1], "file not fully covered"),
    "more than it says": (pack(GOOD, 14), "file not fully covered"),
    "nothing but bytes": (pack({}), "file not fully covered"),
    "html": (b"<!DOCTYPE html><html></html>", "but an HTML page"),
    "zip": (b"PK\3\4" + bytes(99), "but a pickle, which could run code and is never opened"),
    "pickle": (b"\x80\4" + bytes(99), "but a pickle, which could run code and is never opened"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_with_its_reason_in_a_short_line(lie: str, path: Path) -> None:
    content, says = LIES[lie]
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a safetensors file") as caught:
        safetensors_header.read(path)
    assert says in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 400


def test_absent_files_and_folders_are_data_errors(path: Path, tmp_path: Path) -> None:
    for place in (path, tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            safetensors_header.read(place)


def judged_alike(path: Path) -> None:
    """What this reader takes the library takes too, with the same shapes; what it refuses is a DataError."""
    try:
        found = safetensors_header.read(path)
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017
        return
    with safe_open(path, "np") as file:
        names = set(file.keys())
        assert names == set(found)
        assert all(tuple(file.get_slice(name).get_shape()) == found[name].shape for name in names)


FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
WHOLE = pack(GOOD)


@FUZZ
@given(st.binary(max_size=80), st.integers(0, 100))
def test_no_bytes_crash_it(path: Path, content: bytes, claimed: int) -> None:
    for text in (content, struct.pack("<Q", claimed) + content, pack(b"{" + content, 0)):
        path.write_bytes(text)
        judged_alike(path)


@FUZZ
@given(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE) * 8 - 1))
def test_no_flipped_bit_and_no_cut_crash_it(path: Path, cut: int, flip: int) -> None:
    content = bytearray(WHOLE)
    content[flip // 8] ^= 1 << flip % 8
    for text in (bytes(content), bytes(content[:cut]), WHOLE[:cut]):
        path.write_bytes(text)
        judged_alike(path)


NUMBERS = st.integers(-2, 20) | st.sampled_from([2**31, 2**62, 2**64, 10**30]) | st.floats() | st.booleans() | st.none()
LISTS = st.lists(NUMBERS, max_size=4) | NUMBERS
ENTRIES = st.fixed_dictionaries(
    {"dtype": st.sampled_from(["F32", "F64", "BOOL", "F4", "C64"]) | NUMBERS, "shape": LISTS, "data_offsets": LISTS}
)


@st.composite
def nearly_right(draw: st.DrawFn) -> dict[str, Any]:
    """Tensors end to end, but for a number that may be off."""
    header: dict[str, Any] = {}
    start = 0
    for name in draw(st.lists(st.text(max_size=3), unique=True, max_size=4)):
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        stop = start + 4 * int(torch.Size(shape).numel()) + draw(st.sampled_from([0, 0, 0, 0, 0, -4, 4]))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, stop]}
        start = stop
    return header


@FUZZ
@given(st.dictionaries(st.text(max_size=3), ENTRIES, max_size=3) | nearly_right(), st.integers(0, 40))
def test_no_header_crashes_it(path: Path, header: dict[str, Any], payload: int) -> None:
    ends = [entry["data_offsets"][-1] for entry in header.values() if isinstance(entry["data_offsets"], list)
            and entry["data_offsets"] and type(entry["data_offsets"][-1]) is int]  # fmt: skip
    for size in {payload, max([0, *(end for end in ends if end < 1000)])}:
        path.write_bytes(pack(header, size))
        judged_alike(path)


def test_places_are_those_of_the_bytes(path: Path) -> None:
    tensors = {"b": torch.arange(5.0), "a": torch.arange(3, dtype=torch.int16), "none": torch.zeros(0, 3)}
    path.write_bytes(content := save(tensors))
    start = struct.unpack_from("<Q", content)[0] + 8
    found = safetensors_header.read(path)
    assert set(found) == set(tensors)
    for name, entry in found.items():
        assert content[start + entry.start : start + entry.stop] == tensors[name].numpy().tobytes()
