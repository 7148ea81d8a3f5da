"""Small linear algebra is done by one thread, and afterwards there are as many as before."""

import threading

import pytest
import torch
from threadpoolctl import ThreadpoolController
from torch import nn

from lightning_al import threads
from lightning_al.gp import (
    BinaryLaplace,
    ExactGP,
    MixtureGP,
    Prior,
    SparseGP,
    Stationary,
    fit_exact,
    fit_laplace,
    fit_sparse,
    kernels,
    log_marginal_likelihood,
)
from lightning_al.gp.foreign import Foreign, fit_foreign
from lightning_al.gp.nodes import posterior_nodes
from lightning_al.gp.safety import SafeProcess
from lightning_al.gp.sparse import greedy_points
from lightning_al.policies import Policy, SetPolicy
from lightning_al.tasks import (
    GPClassification,
    GPRegression,
    GPyTorchRegression,
    MarginalGPRegression,
    SklearnClassification,
    SklearnRegression,
    SparseGPRegression,
)

PRIORS = Prior(1.0, 1.0), Prior(1.0, 1.0), Prior(0.1, 1.0)
ONE, HALF = torch.ones((), dtype=torch.float64), torch.full((2,), 0.5, dtype=torch.float64)


def counts(shared=False):
    """Threads of torch, and the most of any BLAS, or of those that the whole process shares."""
    found = [i for i in ThreadpoolController().info() if i["user_api"] == "blas"]
    own = {"openmp"} if shared else set()  # each thread of Python has its own count of these
    blas = [i["num_threads"] for i in found if i.get("threading_layer") not in own]
    return torch.get_num_threads(), max(blas)


class Watch:
    """How many threads there were whenever somebody looked."""

    def __init__(self):
        self.torch, self.blas = set(), set()

    def look(self):
        found = counts()
        self.torch.add(found[0])
        self.blas.add(found[1])


@pytest.fixture
def watch(monkeypatch):
    """Two threads everywhere; looks at each evaluation of a kernel."""
    seen = Watch()
    plain = dict(kernels.SHAPES)

    def spy(name):
        def shape(r2, xp):
            seen.look()
            return plain[name](r2, xp)

        return shape

    for name in plain:
        monkeypatch.setitem(kernels.SHAPES, name, spy(name))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        yield seen
        assert counts() == (2, 2)  # put back, whatever happened
    torch.set_num_threads(before)


def points(n=9, seed=0):
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 2, generator=draw, dtype=torch.float64)
    return x, torch.sin(6 * x[:, 0]) + x[:, 1]


class Watched(nn.Module):
    """A kernel as GPyTorch has them."""

    def __init__(self, seen):
        super().__init__()
        self.seen, self.scale = seen, nn.Parameter(ONE.clone())

    def forward(self, a, b=None, diag=False):
        self.seen.look()
        if diag:
            return self.scale.expand(len(a))
        gram = self.scale * torch.exp(-(a[:, None] - b).square().sum(-1))
        return Dense(gram)


class Dense:
    def __init__(self, gram):
        self.gram = gram

    def to_dense(self):
        return self.gram


def exact():
    return ExactGP.given(Stationary("rbf", HALF, ONE), 0.1 * ONE, *points())


def sparse():
    x, y = points()
    return SparseGP.given(Stationary("rbf", HALF, ONE), 0.1 * ONE, x[:4], x, y)


def laplace():
    x, y = points()
    return BinaryLaplace.given(Stationary("rbf", HALF, ONE), x, (y > 0.5).double())


def mixture():
    values = torch.tensor([[0.5, 0.5, 1.0, 0.1], [0.3, 0.4, 1.0, 0.1]], dtype=torch.float64)
    return MixtureGP.given("rbf", values, *points())


FUNCTIONS = {
    "fit_exact": lambda seen: fit_exact(*points(), "rbf", *PRIORS),
    "fit_sparse": lambda seen: fit_sparse(*points(), "rbf", *PRIORS, points=3),
    "fit_laplace": lambda seen: fit_laplace(
        points()[0], (points()[1] > 0.5).double(), "rbf", *PRIORS[:2]
    ),
    "fit_foreign": lambda seen: fit_foreign(
        Foreign(Watched(seen)), points()[0], points()[1][:, None], PRIORS[2]
    ),
    "evidence": lambda seen: log_marginal_likelihood(
        Stationary("rbf", HALF, ONE), 0.1 * ONE, *points()
    ),
    "greedy_points": lambda seen: greedy_points(Stationary("rbf", HALF, ONE), points()[0], 3),
    "exact": lambda seen: exact(),
    "exact moments": lambda seen: exact().moments(points(5)[0]),
    "exact joint": lambda seen: exact().joint(points(5)[0]),
    "condition": lambda seen: exact().condition(*points(3, 1)),
    "sparse moments": lambda seen: sparse().moments(points(5)[0]),
    "sparse joint": lambda seen: sparse().joint(points(5)[0]),
    "laplace": lambda seen: laplace().moments(points(5)[0]),
    "mixture": lambda seen: mixture().moments(points(5)[0]),
    "joint of a mixture": lambda seen: mixture().joint(points(5)[0]),
    "nodes": lambda seen: posterior_nodes("rbf", PRIORS, *points()),
    "safe process": lambda seen: SafeProcess.given(*points()).deviations(points(5)[0]),
}
USE_BLAS = ("fit_exact", "fit_sparse", "fit_laplace", "fit_foreign", "evidence")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_of_the_room(watch, monkeypatch, name):
    FUNCTIONS[name](watch)
    assert watch.torch == {1}
    if name in USE_BLAS:
        assert watch.blas == {1}
    monkeypatch.setattr(threads, "SMALL", -1)  # nothing is small
    watch.torch.clear()
    FUNCTIONS[name](watch)
    assert watch.torch == {2}


TASKS = {
    "exact": GPRegression,
    "sparse": lambda: SparseGPRegression(points=3),
    "marginal": lambda: MarginalGPRegression(samples=2, warm_up=2),
    "classes": lambda: GPClassification(2),
}


@pytest.mark.parametrize("name", TASKS)
def test_every_task(watch, name):
    task = TASKS[name]()
    x, y = points()
    with torch.no_grad():
        task.learn(x, (y > 0.5).long() if name == "classes" else y)
        assert watch.torch == watch.blas == {1}
        watch.torch.clear()
        task.at_quantiles(x, torch.zeros(2, 1))
        assert watch.torch <= {1}
        if name != "classes":
            task.joint(x)
            assert watch.torch == {1}


def test_gpytorch(watch, monkeypatch):
    import gpytorch

    plain = gpytorch.kernels.RBFKernel.forward

    def forward(self, *args, **kwargs):
        watch.look()
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(gpytorch.kernels.RBFKernel, "forward", forward)
    task = GPyTorchRegression(steps=3)
    task.learn(*points())
    assert watch.torch == watch.blas == {1}
    task.moments(points(5)[0])
    assert watch.torch == {1}


class Estimator:
    """Of scikit-learn's kind; looks when it works."""

    def __init__(self, seen=None):
        self.seen = seen

    def get_params(self, deep=True):
        return {"seen": self.seen}

    def set_params(self, **given):
        self.seen = given.get("seen", self.seen)
        return self

    def __sklearn_clone__(self):
        return Estimator(self.seen)

    def fit(self, x, y):
        self.seen.look()
        self.classes_ = torch.as_tensor(y).unique().numpy()
        return self

    def predict(self, x):
        self.seen.look()
        return x[:, 0]

    def predict_proba(self, x):
        self.seen.look()
        return torch.full((len(x), 2), 0.5).numpy()


@pytest.mark.parametrize("kind", [SklearnRegression, SklearnClassification])
def test_scikit_learn(watch, monkeypatch, kind):
    x, y = points()
    goal = y if kind is SklearnRegression else (y > 0.5).long()
    settings = {} if kind is SklearnRegression else {"classes": 2}
    task = kind(Estimator(watch), **settings)
    task.learn(x, goal)
    task.raw(x)
    assert watch.torch == watch.blas == {1}
    monkeypatch.setattr(threads, "SMALL", -1)
    watch.torch.clear()
    task.raw(x)
    assert watch.torch == {2}


def test_policies(watch, monkeypatch):
    policy = Policy.of(SetPolicy(2), history=20, budget=20)
    inner = policy._engine

    class Engine:
        def __getattr__(self, name):
            watch.look()
            return getattr(inner, name)

    policy._engine = Engine()
    x, y = points()
    policy.query(x, y, 3)
    session = policy.session(3)
    for at in range(3):
        session.tell(x[at], y[at])
        session.ask()
    assert watch.torch == {1}
    monkeypatch.setattr(threads, "SMALL", -1)
    watch.torch.clear()
    policy.query(x, y, 3)
    assert watch.torch == {2}


# --- the context ---------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [threads.one_thread, threads.torch_alone])
def test_after_an_error_there_are_as_many_as_before(watch, context):
    def fail():
        with context():
            assert counts()[0] == 1
            raise KeyError

    with pytest.raises(KeyError):
        fail()


def test_one_inside_of_another_changes_nothing(watch):
    with threads.one_thread():
        with threads.one_thread(), threads.small(0):
            assert counts() == (1, 1)
        assert counts() == (1, 1)
    assert counts() == (2, 2)


@pytest.mark.parametrize("order", [("first", "second"), ("second", "first")])
def test_of_two_threads_of_python_the_last_one_to_leave_puts_blas_back(watch, order):
    go = {name: threading.Event() for name in order}
    inside = {name: threading.Event() for name in order}

    def work(name):
        with threads.one_thread():
            inside[name].set()
            go[name].wait(10)

    workers = {name: threading.Thread(target=work, args=(name,)) for name in ("first", "second")}
    for name, worker in workers.items():
        worker.start()
        inside[name].wait(10)
    for name in order:
        assert counts(shared=True)[1] == 1
        go[name].set()
        workers[name].join()
    assert counts() == (2, 2)


@pytest.mark.parametrize(("n", "more", "work"), [(10, None, 1e3), (10, 2000, 2e5), (400, 5, 8e5)])
def test_work_is_counted(n, more, work):
    from lightning_al.gp.exact import _cost

    assert _cost(torch.zeros(n, 3), more) == work
    assert _cost(torch.zeros(7, n, 3), more) == 7 * work
