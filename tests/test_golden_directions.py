"""A case of S5 in both directions, computed here step by step, is replayed with its read-out in two parts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tests.test_golden as golden
from tests.golden.case import CASES

Arrays = dict[str, np.ndarray]
SIZES = {"H": 3, "P": 4, "P_full": 8, "L": 9, "blocks": 1, "bidirectional": True}
ENCODINGS = {"Lambda_re": "re", "Lambda_im": "im", **dict.fromkeys(("B", "C1", "C2"), "re_im_last")}
SYMBOLS = {"Lambda_re": "Lambda", "Lambda_im": "Lambda", "C1": "C", "C2": "C"}


def drawn(rng: np.random.Generator, channels: int, modes: int, length: int) -> Arrays:
    """Inputs and parameters, as float32 holds them."""
    sizes = {"Lambda_im": (modes,), "B": (modes, channels, 2), "D": (channels,), "u": (length, channels)}
    found = {name: rng.standard_normal(size) for name, size in sizes.items()}
    found |= {name: rng.standard_normal((channels, modes, 2)) for name in ("C1", "C2")}
    found["Lambda_re"] = -np.exp(rng.standard_normal(modes) / 2)
    found["log_step"] = rng.standard_normal((modes, 1)) / 2 - 1.5
    return {name: value.astype(np.float32).astype(np.float64) for name, value in found.items()}


def outputs(given: Arrays, rule: str) -> np.ndarray:
    """y_t = 2 Re(C1 x_t + C2 z_t) + D u_t with x from the left and z from the right, both with u_t."""
    rates = given["Lambda_re"] + 1j * given["Lambda_im"]
    write, first, second = (given[name][..., 0] + 1j * given[name][..., 1] for name in ("B", "C1", "C2"))
    step = np.exp(given["log_step"][:, 0])
    if rule == "zoh":
        decay, gain = np.exp(rates * step), (np.exp(rates * step) - 1) / rates
    else:
        decay, gain = (1 + step / 2 * rates) / (1 - step / 2 * rates), step / (1 - step / 2 * rates)
    written = given["u"] @ (gain[:, None] * write).T

    def read(written: np.ndarray, direction: np.ndarray) -> np.ndarray:
        memory, found = np.zeros(len(rates), complex), []
        for now in written:
            memory = decay * memory + now
            found.append(2 * (direction @ memory).real)
        return np.array(found)

    return read(written, first) + read(written[::-1], second)[::-1] + given["D"] * given["u"]


def central_difference(given: Arrays, name: str, cotangent: np.ndarray, rule: str) -> np.ndarray:
    """The gradient of sum(cotangent * outputs): h = 1e-6 leaves about h^2 and 1e-16 / h, far below float32."""
    found = np.zeros_like(given[name])
    for index in np.ndindex(found.shape):
        sides = []
        for shift in (1e-6, -1e-6):
            moved = given[name].copy()
            moved[index] += shift
            sides.append((outputs({**given, name: moved}, rule) * cotangent).sum())
        found[index] = (sides[0] - sides[1]) / 2e-6
    return found


def described(arrays: Arrays, given: Arrays) -> dict[str, Any]:
    """The sidecar's entries; C1 and C2 are the parts of C."""
    limits = {"compare": True, "tolerance": {"rtol": 1e-4, "atol": 0.0, "atol_relative_to_max": 1e-5}}
    entries = {}
    for name in given:
        entry = {"role": "parameter", "symbol": SYMBOLS.get(name, name), "encoding": ENCODINGS.get(name, "real")}
        if entry["symbol"] == "C":
            entry |= {"part": {"C1": "forward", "C2": "backward"}[name], "part_axis": 1}
        entries[name] = entry
        entries[f"d_{name}"] = {**entry, **limits, "role": "gradient", "symbol": f"d.{entry['symbol']}", "of": name}
    entries["u"]["role"] = "input"
    entries["y"] = {"role": "output", "symbol": "y", "encoding": "real", **limits}
    entries["g"] = {"role": "cotangent", "symbol": "cot.y", "encoding": "real", "of": "y"}
    return {name: {**entries[name], "shape": list(a.shape), "dtype": str(a.dtype)} for name, a in arrays.items()}


@pytest.mark.parametrize(("rule", "dtype", "seed"), [("zoh", "float32", 0), ("bilinear", "float64", 1)])
def test_both_directions_of_s5_and_their_gradients(rule: str, dtype: str, seed: int, tmp_path: Path):
    rng = np.random.default_rng(seed)
    given = drawn(rng, SIZES["H"], SIZES["P"], SIZES["L"])
    cotangent = rng.standard_normal(given["u"].shape)
    arrays = {f"d_{name}": central_difference(given, name, cotangent, rule) for name in given}
    arrays = {**given, **arrays, "y": outputs(given, rule), "g": cotangent}
    # in any order
    arrays = {name: arrays[name].astype(dtype) for name in rng.permutation(list(arrays))}
    sidecar = json.loads((CASES / "s5.json").read_text(encoding="utf-8"))
    sidecar["config"] |= {**SIZES, "discretization": rule}
    path = tmp_path / "case.json"
    path.write_text(json.dumps({**sidecar, "arrays": described(arrays, given)}))
    np.savez(path.with_suffix(".npz"), **arrays)

    golden.test_golden(path, lambda *_: None)
