"""Torch tensors on the CPU as parameters and gradients: the same memory, any dtype there is, any strides."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from bits import BFLOAT16
from cases import ones

import schuss
from schuss.core import arrays

torch = pytest.importorskip("torch")

DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": BFLOAT16}


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("name", DTYPES)
def test_parameters_and_gradients(name, requires_grad):
    whole = torch.arange(24.0).reshape(4, 6).to(getattr(torch, name)).requires_grad_(requires_grad)
    ours = [whole[::2, 1::2].T] if not requires_grad else [whole]
    theirs = [np.array(p.detach().float().numpy()).astype(DTYPES[name]) for p in ours]
    optimizers = [schuss.AdamW(params, lr=0.1, backend="numpy") for params in (ours, theirs)]
    for step in range(2):
        gradient = torch.full(tuple(ours[0].shape), step - 0.3).to(getattr(torch, name))
        optimizers[0].step([gradient])
        optimizers[1].step([np.full(theirs[0].shape, step - 0.3).astype(DTYPES[name])])
    np.testing.assert_array_equal(ours[0].detach().float().numpy(), theirs[0].astype(np.float32))


def test_a_bfloat16_gradient_of_a_float32_parameter():
    p, g = torch.ones(4), torch.full((4,), 0.5, dtype=torch.bfloat16)
    schuss.SGD([p], lr=0.5, backend="numpy").step([g])
    assert p.tolist() == [0.75] * 4


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ("torch.ones(2, dtype=torch.float8_e4m3fn)", r"this Tensor of dtype torch.float8_e4m3fn: "),
        ("torch.ones(2, dtype=torch.int32)", r"got int32"),
        ("torch.ones(2, dtype=torch.complex64)", r"got complex64"),
        ("torch.ones(2).to_sparse()", r"this Tensor of dtype torch.float32: "),
    ],
)
def test_other_tensors_are_named(tensor, message):
    expected = r"expected a float array \(float64, float32, float16 or bfloat16\).*"
    with pytest.raises(TypeError, match=rf"parameter 'w': {expected}{message}"):
        schuss.SGD({"w": eval(tensor)}, backend="numpy")
    with pytest.raises(TypeError, match=rf"gradient of 'w': {expected}{message}"):
        schuss.SGD({"w": ones(2)}, backend="numpy").step({"w": eval(tensor)})


def test_bfloat16_without_ml_dtypes(monkeypatch):
    arrays.dtypes._dtype.cache_clear()
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    message = "parameter 'w': .* this Tensor of dtype torch.bfloat16: bfloat16 needs ml_dtypes; get it with: pip"
    with pytest.raises(TypeError, match=message):
        schuss.SGD({"w": torch.ones(2, dtype=torch.bfloat16)}, backend="numpy")
    arrays.dtypes._dtype.cache_clear()
