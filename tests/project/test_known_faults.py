"""Faults that users of other packages reported: one test each, that it is not so here.

The docstrings name the report and the kind of fault. What is asked is small; the tests of each room ask more.
"""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from bits import BFLOAT16
from cases import READY, arrays, assert_same_optimizers, ones

import schuss

pytestmark = pytest.mark.parametrize("backend", READY)


def grads(*shape, value=1.0, dtype=np.float32):
    return np.full(shape, value, dtype)


def test_elements_behind_the_last_full_vector_move(backend):
    """deepspeedai/DeepSpeed#735: the way of the CPU Adam for what fills no SIMD register was wrong."""
    params = [ones(n) for n in range(70)]
    schuss.SGD(params, lr=0.5, backend=backend).step([grads(n) for n in range(70)])
    for p in params:
        np.testing.assert_array_equal(p, 0.5)


@pytest.mark.slow
def test_more_than_2_to_31_elements(backend):
    """deepspeedai/DeepSpeed#7640, NVIDIA/apex#1654: counts in 32 bits; such tensors were never updated, or a crash."""
    if backend == "numpy":
        pytest.skip("it would need many times the memory")
    size = (1 << 31) + 5000
    p, g = np.zeros(size, np.float32), np.zeros(size, np.float32)
    g[-1] = g[1 << 31] = g[0] = 1.0
    schuss.SGD([p], lr=0.5, backend=backend).step([g])
    assert (p[0], p[1], p[1 << 31], p[-1], p[-2]) == (-0.5, 0.0, -0.5, -0.5, 0.0)


def test_offsets_beyond_2_to_31_bytes(backend):
    """The same reports, with strides that reach so far: few elements, in pages that nobody else touches."""
    memory = np.zeros(5 << 28, np.float32)
    p = memory[:: 1 << 28]
    assert p.strides[0] * (p.size - 1) > 1 << 31
    schuss.SGD([p], lr=0.5, backend=backend).step([grads(p.size)])
    np.testing.assert_array_equal(p, -0.5)
    assert memory[1] == 0.0


def test_strides_are_not_ignored(backend):
    """bitsandbytes-foundation/bitsandbytes#1185: a gradient that is a view of another array was read as if dense."""
    whole = arrays([(8, 12)], np.float32, 0)[0]
    params = [ones(8, 4), ones(8, 4)]
    optimizers = [schuss.AdamW([p], lr=0.1, backend=backend) for p in params]
    optimizers[0].step([whole[:, ::3]])
    optimizers[1].step([whole[:, ::3].copy()])
    np.testing.assert_array_equal(*params)


def test_the_stride_of_an_axis_of_one_means_nothing(backend):
    """pytorch/pytorch#106951: a fused Adam refused gradients whose axis of size 1 had another stride."""
    p, g = ones(2, 1, 100), np.lib.stride_tricks.as_strided(grads(200), (2, 1, 100), (400, 4, 4))
    schuss.SGD([p], lr=0.5, backend=backend).step([g])
    np.testing.assert_array_equal(p, 0.5)


def test_small_updates_of_16_bit_weights_are_not_lost(backend):
    """pytorch/ao#1124: an update below the last bit of a bfloat16 is rounded away, in every step."""
    p = np.ones(64, BFLOAT16)
    optimizer = schuss.SGD([p], lr=1e-3, master="float32", backend=backend)
    for _ in range(10):
        optimizer.step([np.ones(64, BFLOAT16)])
    np.testing.assert_array_equal(p, np.float32(1 - 0.01).astype(BFLOAT16))


def test_hyper_parameters_are_not_in_the_weights_precision(backend):
    """FluxML/Optimisers.jl#215: beta2 = 0.999 is 1 in bfloat16, and Adam divided by zero."""
    p = np.ones(64, BFLOAT16)
    schuss.AdamW([p], lr=0.25, weight_decay=0.0, backend=backend).step([np.ones(64, BFLOAT16)])
    np.testing.assert_array_equal(p.astype(np.float32), 0.75)


def test_master_weights_in_halves_are_exact(backend):
    """NVIDIA/apex#1842: a float32 put together of a bfloat16 and its lower 16 bits was now and then another."""
    values = np.random.default_rng(0).standard_normal(2000).astype(np.float32)
    params = [values.astype(BFLOAT16) for _ in range(2)]
    optimizers = [
        schuss.SGD([p], lr=0.1, master=m, backend=backend)
        for p, m in zip(params, ("float32", "remainder"), strict=True)
    ]
    for step in range(5):
        for optimizer in optimizers:
            optimizer.step([(values * (step - 2)).astype(BFLOAT16)])
    exact, halves = (o.state_dict()["state"]["0"]["master"] for o in optimizers)
    joined = (params[1].view(np.uint16).astype(np.int64) << 16) + halves.view(np.int16)
    np.testing.assert_array_equal(joined, exact.view(np.uint32))


def test_lions_decay_is_not_in_the_sign(backend):
    """bitsandbytes-foundation/bitsandbytes#1992: weight decay was added to the gradient, and turned Lion's sign."""
    p = grads(40, value=10.0)
    schuss.Lion([p], lr=0.5, weight_decay=0.1, backend=backend).step([grads(40, value=-0.25)])
    np.testing.assert_array_equal(p, np.float32(10.0 * (1 - 0.05) + 0.5))


def test_momentum_stays_in_a_skipped_step(backend):
    """LibreYOLO/libreyolo#771: a fused SGD put the infinity of a step that was skipped into its momentum."""
    p = ones(40)
    optimizer = schuss.SGD([p], lr=0.1, momentum=0.9, backend=backend)
    optimizer.step([grads(40)])
    before = pickle.dumps((p, optimizer.state_dict()))
    assert optimizer.step([grads(40, value=np.inf)], skip_nonfinite=True).skipped
    assert pickle.dumps((p, optimizer.state_dict())) == before


def test_gradients_are_unscaled_before_they_are_clipped(backend):
    """pytorch/pytorch#94060: clipping by hand and a fused step with a loss scale: gradients were unscaled twice."""
    params = [ones(40), ones(40)]
    schuss.SGD(params[:1], lr=1.0, backend=backend).step([grads(40, value=1024.0)], grad_scale=1 / 1024, clip_norm=1.0)
    schuss.SGD(params[1:], lr=1.0, backend=backend).step([grads(40, value=1.0)], clip_norm=1.0)
    np.testing.assert_array_equal(*params)
    assert 0.8 < params[0][0] < 0.9


def test_a_norm_that_is_not_finite_is_said(backend):
    """pytorch/pytorch#46849: clipping by a norm that is NaN went on in silence. Here the norm comes back, and a step
    that must not be made is not."""
    p = ones(40)
    optimizer = schuss.SGD([p], lr=0.1, backend=backend)
    g = grads(40)
    g[7] = np.nan
    info = optimizer.step([g], clip_norm=1.0, skip_nonfinite=True)
    assert np.isnan(info.grad_norm)
    assert info.skipped
    np.testing.assert_array_equal(p, 1.0)


def test_squares_of_large_gradients_do_not_overflow_in_the_norm(backend):
    """ray-project/ray#45055: finite gradients, whose squares are not, made the norm infinite."""
    p = ones(4)
    info = schuss.SGD([p], lr=1.0, backend=backend).step([grads(4, value=1e30)], clip_norm=1.0)
    np.testing.assert_allclose(info.grad_norm, 2e30, rtol=1e-6)
    np.testing.assert_allclose(p, 0.5, rtol=1e-6)


def test_every_tensor_has_its_own_bias_correction(backend):
    """NVIDIA/apex (FusedAdam), KellerJordan/Muon#54: one count for a group, wrong for tensors that had no gradient."""
    late, alone = ones(40), ones(40)
    optimizer = schuss.AdamW([ones(40), late], lr=0.1, backend=backend)
    for _ in range(5):
        optimizer.step([grads(40), None])
    optimizer.step([grads(40), grads(40)])
    schuss.AdamW([alone], lr=0.1, backend=backend).step([grads(40)])
    np.testing.assert_array_equal(late, alone)


def test_counts_do_not_wrap(backend):
    """SlopDotCash/asi#334: counts of steps in 32 bits wrap, and the bias correction goes wrong."""
    p = ones(40)
    optimizer = schuss.AdamW([p], lr=0.1, backend=backend)
    optimizer.step([grads(40)])
    saved = optimizer.state_dict()
    saved["steps"] = saved["state"]["0"]["step"] = (1 << 31) - 1
    optimizer.load_state_dict(saved)
    optimizer.step([grads(40)])
    assert optimizer.state_dict()["state"]["0"]["step"] == 1 << 31
    assert (np.isfinite(p) & (p < 1.0)).all()


def test_a_nan_is_not_swallowed_by_a_maximum(backend):
    """C's and CUDA's ``fmax`` returns the other number: AMSGrad with it forgets that a gradient was NaN."""
    p, g = ones(40), grads(40)
    optimizer = schuss.AdamW([p], lr=0.1, amsgrad=True, backend=backend)
    optimizer.step([g])
    g[5] = np.nan
    optimizer.step([g])
    assert np.isnan(optimizer.state_dict()["state"]["0"]["max_exp_avg_sq"][5])
    assert np.flatnonzero(np.isnan(p)).tolist() == [5]


def test_states_keep_their_dtype_when_they_are_loaded(backend):
    """pytorch/pytorch#43706: loading cast float32 states to the dtype of 16-bit parameters: bits were gone."""
    optimizer = schuss.AdamW([np.ones(40, BFLOAT16)], lr=0.1, backend=backend)
    optimizer.step([np.full(40, 0.3, BFLOAT16)])
    saved = optimizer.state_dict()
    optimizer.load_state_dict(saved)
    after = optimizer.state_dict()["state"]["0"]["exp_avg"]
    assert after.dtype == np.float32
    np.testing.assert_array_equal(after, saved["state"]["0"]["exp_avg"])
    other = schuss.AdamW([np.ones(40, BFLOAT16)], state_dtype="bfloat16", backend="numpy")
    with pytest.raises(TypeError, match="expected dtype bfloat16, got float32"):
        other.load_state_dict(saved)


def test_states_go_by_name_and_not_by_place_or_id(backend):
    """pytorch/pytorch#1489, #42428: states under the number or the address of a parameter met another one at resume."""
    one = {"a": ones(40), "b": grads(40, value=2.0)}
    optimizer = schuss.AdamW(one, lr=0.1, backend=backend)
    optimizer.step({"a": grads(40), "b": grads(40, value=-3.0)})
    two = {"b": one["b"].copy(), "a": one["a"].copy()}
    other = schuss.AdamW(two, lr=0.1, backend=backend)
    other.load_state_dict(optimizer.state_dict())
    for own in (optimizer, other):
        own.step({"b": grads(40), "a": grads(40)})
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


def test_a_changed_learning_rate_is_the_next_steps(backend):
    """google-deepmind/optax#577, pytorch/pytorch#107076: a rate that compiled code took for a constant. Here nothing
    is compiled again, and it is not ignored."""
    p = ones(40)
    optimizer = schuss.SGD([p], lr=0.5, backend=backend)
    optimizer.step([grads(40)])
    engine = optimizer._stepper.engine
    optimizer.param_groups[0]["lr"] = 0.25
    optimizer.step([grads(40)])
    np.testing.assert_array_equal(p, 0.25)
    assert optimizer._stepper.engine is engine


def test_what_is_known_of_a_gradient_dies_with_it(backend):
    """Caches by ``id()`` or address: another array at the place of one that is gone was taken for the same."""
    p = ones(40)
    optimizer = schuss.SGD([p], lr=1.0, backend=backend)
    memory = np.zeros(400, np.float32)
    memory[:40], memory[40::2] = 1.0, 2.0
    for g in (memory[:40], memory[0:80:2], memory[:40].astype(np.float64), memory[39::-1]):
        before = p.copy()
        optimizer.step([g])
        np.testing.assert_array_equal(p, before - g.astype(np.float32))
        del g
    with pytest.raises(ValueError, match="expected shape"):
        optimizer.step([memory[:41]])


def test_dtypes_that_come_from_another_process_are_the_same(backend):
    """numpy/numpy#6422: the dtype of an unpickled array is another object, and equal."""
    p = ones(40)
    schuss.SGD([p], lr=0.5, backend=backend).step([pickle.loads(pickle.dumps(grads(40)))])
    np.testing.assert_array_equal(p, 0.5)


def test_tensors_do_not_share_their_random_bits(backend):
    """karpathy/llm.c#597: tensors of one shape were rounded stochastically with the same bits."""
    params = [np.ones(4000, BFLOAT16) for _ in range(2)]
    schuss.SGD(params, lr=0.001, rounding="stochastic", seed=1, backend=backend).step([np.ones(4000, BFLOAT16)] * 2)
    moved = [p != 1 for p in params]
    assert all(0.15 < m.mean() < 0.4 for m in moved)  # a quarter of the distance to the next number
    assert (moved[0] != moved[1]).any()


def test_zero_weights_and_zero_gradients(backend):
    """cybertronai/pytorch-lamb#6, microsoft/dion#24: weights of zero never moved; gradients of zero made NaN."""
    params = [np.zeros(40, np.float32), ones(40)]
    schuss.LAMB(params, lr=0.1, weight_decay=0.0, backend="numpy").step([grads(40), grads(40, value=0.0)])
    assert (params[0] < 0).all()
    np.testing.assert_array_equal(params[1], 1.0)


def test_thousands_of_tensors_in_one_step(backend):
    """NVIDIA/TransformerEngine#3418: one launch of a fused Adam ran out of handles at some thousands of tensors."""
    params = list(np.ones((3000, 1), np.float32))
    schuss.SGD(params, lr=0.5, backend=backend).step([grads(1)] * len(params))
    assert sum(float(p[0]) for p in params) == 1500.0


def test_parameters_are_updated_where_they_are(backend):
    """pytorch/pytorch#7844: a new array in the parameter's place is trained by nobody. The old one still is, and a
    gradient that is the parameter itself is refused."""
    params = {"w": ones(40)}
    old = params["w"]
    optimizer = schuss.SGD(params, lr=0.5, backend=backend)
    params["w"] = params["w"] * 2
    optimizer.step({"w": grads(40)})
    np.testing.assert_array_equal(old, 0.5)
    np.testing.assert_array_equal(params["w"], 2.0)
    with pytest.raises(ValueError, match="shares memory"):
        optimizer.step({"w": old})


def test_a_checkpoint_is_no_view_of_what_trains(backend):
    """Checkpoints that hold the live arrays change while training goes on, and what is loaded changes with them."""
    p = ones(40)
    optimizer = schuss.AdamW([p], lr=0.1, backend=backend)
    optimizer.step([grads(40)])
    saved, values = optimizer.state_dict(), p.copy()
    kept = pickle.dumps(saved)
    optimizer.step([grads(40)])
    assert pickle.dumps(saved) == kept
    again = schuss.AdamW([values], lr=0.1, backend=backend)
    again.load_state_dict(saved)
    again.step([grads(40)])
    assert pickle.dumps(saved) == kept
    assert_same_optimizers(again, optimizer)
