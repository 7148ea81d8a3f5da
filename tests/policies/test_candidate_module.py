"""Training of policies that score candidates: what is learned, resumption, processes."""

import pytest
import torch
from helpers import candidate_ranks
from helpers.candidate_ranks import CASES, law, module
from helpers.processes import end, start
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from lightning_al.policies import (
    Batch,
    CandidateModule,
    CandidatePolicy,
    SetPolicy,
    Simulator,
    SimulatorDataModule,
    Streams,
)
from lightning_al.policies.candidates.asking import asking, error
from lightning_al.policies.candidates.network import Judged
from lightning_al.policies.candidates.worlds import World


def fit(folder, model, steps=7, epochs=1, ckpt=None, simulator=None, validate=False, save=None):
    data = SimulatorDataModule(simulator or law(), steps=steps, validate=validate)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        logger=False,
        callbacks=[] if save is None else [save],
        enable_checkpointing=save is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )
    trainer.fit(model, data, ckpt_path=ckpt)
    return trainer


def test_a_run_that_was_stopped_amid_a_rollout_goes_on_as_if_it_had_not_been(tmp_path):
    whole = module(torch.float32)
    save = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=4)
    fit(tmp_path, whole, save=save)  # rollouts at 0, 3 and 6
    losses = [float(v) for v in whole.progress.losses]
    again = module(torch.float32, seed=9)
    fit(tmp_path, again, ckpt=tmp_path / "step=4.ckpt")
    assert [float(v) for v in again.progress.losses] == losses
    for a, b in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(a, b)
    state = torch.load(tmp_path / "step=4.ckpt", weights_only=True)  # plain values only
    assert state["progress"]["losses"] == losses[:4]
    loaded = CandidateModule.load_from_checkpoint(tmp_path / "step=4.ckpt")
    assert loaded.hparams == whole.hparams


@pytest.mark.parametrize("form", CASES)
@pytest.mark.parametrize("target", ["entropy", "mutual", "ivr"])
def test_every_parameter_learns_and_the_average_follows(tmp_path, form, target):
    torch.manual_seed(0)
    network = CandidatePolicy(2, width=8, heads=2, candidates=9, **CASES[form])
    start_ = [p.detach().clone() for p in network.parameters()]
    grads = {}

    class Watched(CandidateModule):
        def configure_gradient_clipping(self, *args, **kwargs):
            super().configure_gradient_clipping(*args, **kwargs)
            grads.update({k: p.grad.clone() for k, p in self.learner.named_parameters()})

    model = Watched(network, target, points=5, reuse=2, warmup=0, candidates=4)
    fit(tmp_path, model, steps=1, simulator=law(**CASES[form]))
    assert all(g.isfinite().all() for g in grads.values())
    assert [k for k, g in grads.items() if not g.any()] == []
    for first, now, average in zip(
        start_, model.learner.parameters(), model.network.parameters(), strict=True
    ):
        torch.testing.assert_close(average, first + 0.9 * (now - first), rtol=1e-4, atol=1e-7)


def test_the_loss_is_least_where_scores_are_the_worth_and_moves_climb():
    """With everything but the scores held still, the scores' own part is least at the worth."""
    model = module()
    world = World.of(law(), Streams.of(0, 0))
    asked = world.play(asking(model.network))
    worth = model.target.of(world, asked)
    counts = torch.tensor([2, 3, 4, 5, 2])
    places = world.places("here", 4)

    class Fixed(CandidatePolicy):
        """Says what it was told."""

        def look(self, known, candidates):
            return Judged(self.moved_, torch.zeros_like(candidates), self.here_)

    model.learner = Fixed(2, width=8, heads=2).double()
    right = worth.at(counts, places)
    off = torch.tensor([1.0, -1.0, 0.5, -0.5])
    for part in ("moved_", "here_"):  # the worth where it is moved to, and where it is: the same
        found = []
        for noise in (0.0, 0.1, 0.3):
            model.learner.moved_ = model.learner.here_ = right
            setattr(model.learner, part, right + noise * off)
            found.append(float(model.loss(asked, worth, counts, places).mean()))
        assert found[0] < found[1] < found[2]


@pytest.mark.slow
def test_a_short_training_beats_random_queries(tmp_path):
    torch.manual_seed(0)
    network = CandidatePolicy(1, width=16, heads=2, candidates=16)
    model = CandidateModule(network, lr=5e-3, warmup=5, reuse=15)
    simulator = Simulator(1, 10, 1, Batch(24, 1, 1), draws="exact")
    fit(tmp_path, model, steps=60, simulator=simulator)
    world = World.of(Simulator(1, 10, 1, Batch(100, 1, 1), draws="exact"), Streams.of(7, 0))
    asked = world.play(asking(model.network))
    generator = torch.Generator().manual_seed(0)

    def anywhere(x, y, z):
        return torch.rand(len(x), 1, generator=generator, dtype=torch.float64)

    assert error(world, asked).mean() < 0.9 * error(world, world.play(anywhere)).mean()


def test_the_expected_error_is_that_of_outcomes():
    """Root mean square of the distance of outcomes and predictions, over many functions."""
    world = World.of(Simulator(1, 3, 2, Batch(600, 1, 1), draws="exact"), Streams.of(2, 0))
    asked = world.play(lambda x, y, z: torch.full_like(x[:, 0], 0.1 * x.shape[1]))
    expected = error(world, asked, points=40).square().mean()
    places = world.places("test", 40)
    known = asked.known
    side = known.side(places)
    joint = world.y.covariance(places, places) - side.mT @ side
    joint.diagonal(dim1=-2, dim2=-1).add_(world.y.noise.unsqueeze(-1))
    white = torch.randn(600, 40, 1, generator=torch.Generator().manual_seed(0)).double()
    off = (torch.linalg.cholesky(joint) @ white).squeeze(-1)
    assert float(off.square().mean()) == pytest.approx(float(expected), rel=0.15)


def test_validation_is_of_the_same_functions_each_time(tmp_path):
    found = []
    for _ in range(2):
        model = module(torch.float32, safe=True)
        trainer = fit(tmp_path, model, steps=1, simulator=law(safe=True), validate=True)
        found.append({k: float(v) for k, v in trainer.callback_metrics.items()})
    assert found[0] == found[1]
    assert {"val/loss", "val/rmse", "val/safe"} <= set(found[0])
    assert 0 <= found[0]["val/safe"] <= 1
    assert 0 < found[0]["val/rmse"] < 1.2


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Folders of what one process and what two have found, all cases each."""
    folders = [tmp_path_factory.mktemp(f"candidate-ranks-{world}") for world in (1, 2)]
    for case in CASES:
        candidate_ranks.main(folders[0], 1, case)
    status, output = end(start("candidate_ranks.py", folders[1], 2, *CASES), within=600)
    assert status == 0, output[-2000:]
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_the_network_of_one(ranks, case):
    one, two = (torch.load(folder / f"{case}.pt") for folder in ranks)
    for name, value in one["state"].items():
        torch.testing.assert_close(two["state"][name], value, rtol=1e-6, atol=1e-8)
    for name, value in one["found"].items():
        assert two["found"][name] == pytest.approx(value, rel=1e-6), name


@pytest.mark.parametrize(
    ("model", "law_", "says"),
    [
        (lambda: module(safe=True), {}, "safety go together"),
        (lambda: module(flexible=True), {}, "flexible go together"),
        (lambda: module(), {"dimension": 3}, "takes 2 inputs, the simulator has 3"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(tmp_path, model, law_, says):
    with pytest.raises(ValueError, match=says):
        fit(tmp_path, model(), simulator=law(**law_))


def test_draws_that_are_none_of_the_process_are_refused(tmp_path):
    for simulator in (
        Simulator(2, 4, 2, Batch(4, 1, 1)),
        Simulator(2, 4, 2, Batch(4, 1, 2), draws="exact"),
    ):
        with pytest.raises(ValueError, match=r"set draws: exact and batch\.replicates: 1"):
            fit(tmp_path, module(), simulator=simulator)


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(TypeError, match="trains a CandidatePolicy, got SetPolicy"):
        CandidateModule(SetPolicy(1, width=8, heads=2, hidden=8))
    with pytest.raises(ValueError, match="no target named 'variance'"):
        CandidateModule(CandidatePolicy(1, width=8, heads=2), "variance")
    broken = module(torch.float32)
    broken.learner.head.bias.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="at step 0: the weights have diverged"):
        fit(tmp_path, broken)
