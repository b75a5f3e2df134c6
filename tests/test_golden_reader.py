"""The reader of golden cases: quantities from arrays, what is compared, and what a sidecar cannot mean."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tests.test_golden as golden
from tests.golden.case import Case, read_case, sidecars
from tests.golden.replay import leaves_of

LIMITS = {"rtol": 0.0, "atol": 1e-6, "atol_relative_to_max": 0.0}
CONFIG = {"gradients": True}


def entry(role: str, symbol: str, array: np.ndarray, encoding: str = "real", **more: Any) -> dict[str, Any]:
    """A sidecar's entry of an array."""
    found = {"role": role, "symbol": symbol, "encoding": encoding, "meaning": "", **more}
    if role in ("output", "exact", "gradient"):
        found = {"compare": True, "tolerance": LIMITS, **found}
    return {"shape": list(array.shape), "dtype": str(array.dtype), **found}


def case(**arrays: tuple[Any, ...]) -> Case:
    """A case of arrays, each (array, role, symbol, encoding, further keys)."""
    entries = {}
    for name, (array, role, symbol, encoding, more) in arrays.items():
        entries[name] = entry(role, symbol, array, encoding, **more)
    return Case(Path("case.json"), {"arrays": entries, "config": CONFIG}, {name: a[0] for name, a in arrays.items()})


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def pieces(whole: np.ndarray, axis: int, parts: dict[str, Any], encoding: str = "real") -> dict[str, Any]:
    """Parts of a parameter C: the array's name and its `part`, in the order of the array."""
    arrays = np.array_split(whole, len(parts), axis)
    return {
        name: (array, "parameter", "C", encoding, {"part": part, "part_axis": axis})
        for (name, part), array in zip(parts.items(), arrays, strict=True)
    }


@pytest.mark.parametrize("names", [["C1", "C2"], ["C2", "C1"]])
def test_directions_are_joined_forward_then_backward(names: list[str]):
    whole = numbers(3, 8, 2)
    found = pieces(whole, 1, {"C1": "forward", "C2": "backward"}, "re_im_last")
    joined = case(**{name: found[name] for name in names}).symbols("parameter")["C"]
    assert torch.equal(joined, torch.view_as_complex(torch.from_numpy(whole).double()))


@pytest.mark.parametrize("first", [0, 1])
def test_numbered_parts_are_joined_by_their_numbers(first: int):
    whole = numbers(7, 2)
    found = pieces(whole, 0, {"a": first, "b": first + 1, "c": first + 2})
    joined = case(**{name: found[name] for name in ("b", "c", "a")}).symbols("parameter")["C"]
    assert torch.equal(joined, torch.from_numpy(whole).double())


def test_parts_may_each_be_two_arrays_of_real_and_imaginary_parts():
    whole = numbers(4, 2) + 1j * numbers(4, 2)[::-1]
    arrays = {}
    for part, rows in (("backward", whole[2:]), ("forward", whole[:2])):
        for encoding, half in (("im", rows.imag), ("re", rows.real)):
            place = {"part": part, "part_axis": 0}
            arrays[f"{part}_{encoding}"] = (half.astype(np.float32), "parameter", "C", encoding, place)
    assert np.array_equal(case(**arrays).symbols("parameter")["C"].numpy(), whole)


def test_gradients_and_cotangents_are_joined_as_what_they_belong_to():
    whole, place = numbers(4, 6), pieces(numbers(4, 6), 1, {"C1": "forward", "C2": "backward"})
    sizes = {"forward": 2, "backward": 3}
    outputs = {
        f"y_{part}": (numbers(size), "output", "y", "real", {"part": part, "part_axis": 0})
        for part, size in sizes.items()
    }
    found = case(
        grad_C2=(whole[:, 3:], "gradient", "d.C", "real", {"of": "C2"}),
        grad_C1=(whole[:, :3], "gradient", "d.C", "real", {"of": "C1"}),
        g2=(numbers(3), "cotangent", "cot.y", "real", {"of": "y_backward"}),
        g1=(numbers(2), "cotangent", "cot.y", "real", {"of": "y_forward"}),
        **place,
        **outputs,
    )
    assert torch.equal(found.symbols("gradient")["d.C"], torch.from_numpy(whole).double())
    assert found.symbols("cotangent")["cot.y"].shape == (5,)


def test_each_part_is_compared_by_its_own_limits():
    one = np.ones(2, dtype=np.float32)
    wide = {"part": "backward", "part_axis": 0, "tolerance": LIMITS | {"atol": 0.1}}
    narrow = {"part": "forward", "part_axis": 0}
    found = case(a=(one, "output", "y", "real", wide), b=(one, "output", "y", "real", narrow)).compared()["y"]
    assert found.excess(torch.tensor([1.0, 1.0, 1.05, 1.0])) < 1 < found.excess(torch.tensor([1.05, 1.0, 1.0, 1.0]))


def test_a_part_that_is_not_compared_is_passed_over():
    one, off = np.ones(2, dtype=np.float32), {"part": "backward", "part_axis": 0, "compare": False}
    on = {"part": "forward", "part_axis": 0}
    found = case(a=(one, "output", "y", "real", on), b=(one, "output", "y", "real", off)).compared()["y"]
    assert found.excess(torch.tensor([1.0, 1.0, 9.0, 9.0])) <= 1
    with pytest.raises(AssertionError, match="shape"):
        found.excess(torch.ones(2))


def placed(part: Any, axis: int | None = 0, *shape: int, encoding: str = "real") -> tuple[Any, ...]:
    place = {} if axis is None else {"part_axis": axis}
    return numbers(*(shape or (2, 2))), "parameter", "C", encoding, place | ({} if part is None else {"part": part})


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"a": placed("forward")}, "part backward is missing"),
        ({"a": placed(0), "b": placed(2)}, "part 1 is missing"),
        ({"a": placed(2), "b": placed(3)}, "part 1 is missing"),
        ({"a": placed(0), "b": placed(0), "c": placed(1)}, "a, b are one part"),
        ({"a": placed(None, None), "b": placed(None, None)}, "a, b are one part"),
        ({"a": placed("forward"), "b": placed("sideways")}, "parts are forward, backward or numbers"),
        ({"a": placed(0), "b": placed("backward")}, "parts are forward, backward or numbers"),
        ({"a": placed(-1), "b": placed(0)}, "parts count from 0 or 1"),
        ({"a": placed("forward"), "b": placed("backward", 1)}, "same part_axis"),
        ({"a": placed("forward", None), "b": placed("backward", None)}, "same part_axis"),
        ({"a": placed(None, 0)}, "same part_axis"),
        ({"a": placed(0, 0, 2, 3), "b": placed(1, 0, 2, 4)}, "cannot be joined"),
        ({"a": placed(0, 5), "b": placed(1, 5)}, "cannot be joined"),
        ({"a": placed(None, None, encoding="re")}, "encoded as re"),
        ({"a": placed(None, None, encoding="polar")}, "the encoding polar is not known"),
        ({"a": placed(None, None, 2, 3, encoding="re_im_last")}, "is not \\[re, im\\]"),
    ],
)
def test_what_cannot_be_joined_is_refused(arrays: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=f"(?s)C.*{said}"):
        case(**arrays).symbols("parameter")


def test_a_complex_number_has_the_wider_limits_of_its_halves():
    one = np.ones(2, dtype=np.float32)
    wide = {"tolerance": LIMITS | {"atol": 0.1}}
    halves = {"a": (one, "output", "y", "re", wide), "b": (one, "output", "y", "im", {})}
    for names in ("ab", "ba"):
        found = case(**{name: halves[name] for name in names}).compared()["y"]
        assert found.excess(torch.full((2,), 1.05 + 1j)) < 1 < found.excess(torch.full((2,), 1.1 + 1.1j))


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_the_truth_is_compared_in_place_of_what_the_reference_computed(order: str):
    arrays = {"a": (numbers(2), "output", "y", "real", {}), "b": (2 * numbers(2), "exact", "y", "real", {})}
    found = case(**{name: arrays[name] for name in order})
    assert torch.equal(found.compared()["y"].value, torch.from_numpy(2 * numbers(2)).double())


def test_integers_stay_integers_and_ask_for_no_gradient():
    ids = np.arange(3, dtype=np.int32)
    found = leaves_of(case(ids=(ids, "input", "ids", "real", {}), x=(numbers(2), "input", "x", "real", {})))
    assert found["ids"].dtype == torch.int64 and not found["ids"].requires_grad and found["x"].requires_grad


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shape": [3]}, "a is float32 \\[2\\]"),
        ({"dtype": "float64"}, "the sidecar says float64"),
        ({"symbol": "d.z", "of": "a"}, "a with the symbol d.z"),
    ],
)
def test_a_sidecar_that_does_not_describe_its_arrays_is_refused(change: dict[str, Any], said: str):
    array = numbers(2)
    described = {"a": entry("gradient" if "of" in change else "input", "y", array) | change}
    with pytest.raises(ValueError, match=said):
        Case(Path("case.json"), {"arrays": described}, {"a": array})
    with pytest.raises(ValueError, match="differ in \\['a'\\]"):
        Case(Path("case.json"), {"arrays": described}, {})


def test_json_files_that_are_no_sidecars_are_no_cases(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"family": "gla"}')
    (tmp_path / "table.json").write_text("[1, 2]")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "any name.json").write_text('{"family": "gla", "arrays": {}}')
    assert [path.name for path in sidecars(tmp_path)] == ["any name.json"]


def write(folder: Path, sidecar: dict[str, Any], **arrays: np.ndarray) -> Path:
    path = folder / "case.json"
    path.write_text(json.dumps(sidecar))
    np.savez(path.with_suffix(".npz"), **arrays)
    return path


def test_a_case_in_which_nothing_is_compared_fails(tmp_path: Path):
    matrix = np.eye(4, dtype=np.float32)
    config = {"measure": "legs", "N": 4, "N_stored": 4}
    described = {"A": entry("output", "A", matrix, compare=False)}
    path = write(tmp_path, {"family": "hippo", "config": config, "arrays": described}, A=matrix)
    with pytest.raises(AssertionError, match="nothing was compared"):
        golden.test_golden(path, lambda *_: None)
    assert read_case(path).family == "hippo"
