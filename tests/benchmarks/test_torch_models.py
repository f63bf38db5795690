"""What is timed beside PyTorch is the same network there: parameters, and outputs of one state."""

import numpy as np
import pytest

import hwr.models
import tinynn as tn
from benchmarks.works import WORKS, Work, batches

torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install '.[torch]'")

pytestmark = pytest.mark.torch

# One work for each network.
DISTINCT = {(w.model, *w.options.items()): w for w in WORKS.values()}.values()
FEATURE_MAPS = {"fast": (5, 5, 48), "zhang-cnn": (12, 12, 16), "arora-cnn": (12, 12, 64)}


@pytest.mark.parametrize("work", DISTINCT, ids=lambda work: work.name)
def test_the_twin_computes_the_same(work: Work) -> None:
    from benchmarks.torch_models import create

    torch.manual_seed(0)
    ours = hwr.models.create(work.model, seed=0, **work.options).eval()
    theirs = create(work).eval()
    rng = np.random.default_rng(0)
    for name, tensor in ours.named_buffers():
        if "running_" in name:
            tensor.data += rng.uniform(0, 0.2, tensor.shape).astype("float32")
    state = tn.state.to_torch(ours)
    names = list(theirs.state_dict())
    if work.model == "simple-rnn":  # one bias vector here, two there
        state["rnn.bias_hh_l0"] = np.zeros(128, "float32")
        state = {name: state[name] for name in names}
    if work.model in FEATURE_MAPS:  # flattened as (H, W, C) here, as (C, H, W) there
        height, width, channels = FEATURE_MAPS[work.model]
        weight = state["fc1.weight"].reshape(-1, height, width, channels)
        state["fc1.weight"] = weight.transpose(0, 3, 1, 2).reshape(len(weight), -1)
    assert len(names) == len(state)
    theirs.load_state_dict(
        {n: torch.from_numpy(np.array(a)) for n, a in zip(names, state.values())}
    )
    extra = 128 if work.model == "simple-rnn" else 0
    count = sum(p.size for p in ours.parameters()) + extra
    assert count == sum(p.numel() for p in theirs.parameters())
    images = batches(work, 1, seed=0)[0][0][:4]
    with tn.no_grad(), torch.no_grad():
        mine = ours(tn.Tensor(images)).numpy()
        yours = theirs(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(mine, yours, rtol=0, atol=1e-5 * np.abs(yours).max())
