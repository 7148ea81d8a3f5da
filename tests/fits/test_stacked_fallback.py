"""What a stack can do of users' modules, and what it leaves to single fits, and why."""

import pytest
import torch
from helpers import lean_parts as parts
from helpers import stacks
from pytorch_lightning.callbacks import Callback, EarlyStopping
from torch import nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

from lightning_al.fits.recorder import NotPlain
from lightning_al.fits.stacked import Verdict, fit_stack
from lightning_al.fits.stacked.facts import LIMIT, nominal_rate
from lightning_al.networks import MLP
from lightning_al.tasks import Classification


class Plain(parts.Mine):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


# --- what works ----------------------------------------------------------------------------------


class Attention(Plain):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.net = nn.Sequential(nn.Linear(4, 8), layer, nn.Linear(8, 3))

    def forward(self, x):
        return self.net(x[:, None])[:, 0]


class Density(Plain):
    def training_step(self, batch, batch_idx):
        out = self(batch[0])
        density = torch.distributions.Normal(out[:, 0], out[:, 1].exp())
        return -density.log_prob(batch[1].to(out)).mean()


class Hardest(Plain):
    def training_step(self, batch, batch_idx):
        each = F.cross_entropy(self(batch[0]), batch[1], reduction="none")
        return each.topk(2).values.mean()


class Variance(Plain):
    def training_step(self, batch, batch_idx):
        out = self(batch[0])
        return F.gaussian_nll_loss(out[:, 0], batch[1].to(out), out[:, 1].exp(), full=True)


class Hot(Plain):
    def training_step(self, batch, batch_idx):
        return F.mse_loss(self(batch[0]), F.one_hot(batch[1], 3).to(batch[0]))


class Appends(Plain):
    def on_train_epoch_start(self):
        self.losses = []

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.losses.append(loss.detach())
        self.log("loss", loss, on_step=True, on_epoch=True)
        return {"loss": loss}

    def on_train_epoch_end(self):
        self.log("mean", torch.stack(self.losses).mean())


class Fed(Plain):
    """A metric that is only fed in the step; its value is logged at the end."""

    def __init__(self):
        super().__init__()
        self.accuracy = MulticlassAccuracy(3)

    def training_step(self, batch, batch_idx):
        logits = self(batch[0])
        self.accuracy.update(logits, batch[1])
        self.log("accuracy", self.accuracy, on_step=False, on_epoch=True)
        return F.cross_entropy(logits, batch[1])


class Average(Plain):
    """A buffer that each step replaces."""

    def __init__(self):
        super().__init__()
        self.register_buffer("centre", torch.zeros(3))

    def training_step(self, batch, batch_idx):
        logits = self(batch[0])
        self.centre = 0.9 * self.centre + 0.1 * logits.detach().mean(0)
        return F.cross_entropy(logits - self.centre, batch[1])


class Clamped(Plain):
    def on_train_epoch_end(self):
        with torch.no_grad():
            self.net[0].weight.clamp_(-0.3, 0.3)


class Tied(Plain):
    def __init__(self):
        super().__init__()
        first, second = nn.Linear(4, 4), nn.Linear(4, 4)
        second.weight = first.weight
        self.net = nn.Sequential(first, nn.Tanh(), second, nn.Linear(4, 3))
        self.net[3].bias.requires_grad_(False)


class Image(Plain):
    def __init__(self):
        super().__init__()
        layers = nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 4, 2, padding=1), nn.Dropout2d(0.2)
        self.net = nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 3))


class Decayed(Plain):
    configure = staticmethod(lambda m: torch.optim.NAdam(m.parameters(), lr=0.02, weight_decay=0.1))


WORKS = (
    *(
        Attention,
        Density,
        Hardest,
        Variance,
        Hot,
        Appends,
        Fed,
        Average,
        Clamped,
        Tied,
        Image,
    ),
    Decayed,
)


@pytest.mark.parametrize("task", WORKS)
def test_users_modules_are_stacked(task):
    stack, twins = (stacks.members(task, 4, max_epochs=2) for _ in range(2))
    found = fit_stack(stack)
    torch.set_default_dtype(torch.float64)
    try:
        stacks.agree(stack, twins, found)
    finally:
        torch.set_default_dtype(torch.float32)


# --- what does not -------------------------------------------------------------------------------


class Item(Plain):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.last = loss.item()
        return loss


class Written(Plain):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.last = f"{loss:.3f}"
        return loss


class Branches(Plain):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return 2 * loss if loss > 1 else loss


class Mask(Plain):
    def training_step(self, batch, batch_idx):
        some = batch[1] > 0
        return F.cross_entropy(self(batch[0])[some], batch[1][some])


class Unique(Plain):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) * len(batch[1].unique())


class HotOfWhat(Plain):
    def training_step(self, batch, batch_idx):
        return F.mse_loss(self(batch[0]), F.one_hot(batch[1]).to(batch[0]))


class Recurrent(Plain):
    def __init__(self):
        super().__init__()
        self.net, self.rnn = nn.Linear(5, 3), nn.LSTM(2, 5, batch_first=True)

    def forward(self, x):
        return self.net(self.rnn(x.view(-1, 2, 2))[0][:, -1])


SUM = torch.zeros(())


class Outside(Plain):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        SUM.add_(loss.detach())
        return loss


class Called(Fed):
    def training_step(self, batch, batch_idx):
        logits = self(batch[0])
        self.log("accuracy", self.accuracy(logits, batch[1]))
        return F.cross_entropy(logits, batch[1])


HIDDEN: list[MulticlassAccuracy] = []


class Hidden(Plain):
    """A metric that is no part of the module: a step feeds it tensors of all replicas at once."""

    def training_step(self, batch, batch_idx):
        logits = self(batch[0])
        HIDDEN[0].update(logits, batch[1])
        return F.cross_entropy(logits, batch[1])

    def on_train_epoch_start(self):
        HIDDEN[:] = [MulticlassAccuracy(3)]

    def on_train_epoch_end(self):
        self.log("accuracy", HIDDEN[0].compute())


class Noisy(Plain):
    def training_step(self, batch, batch_idx):
        noise = torch.randn_like(batch[0])
        return F.cross_entropy(self(batch[0] + noise), batch[1])


class Draws(Plain):
    def on_train_epoch_end(self):
        torch.rand(())


class Negative(Plain):
    def training_step(self, batch, batch_idx):
        out = self(batch[0])
        return F.gaussian_nll_loss(out[:, 0], batch[1].to(out), out[:, 1])


class Watches(Plain):
    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.net[0].weight.data.mul_(0.99)


class Curved(Plain):
    configure = staticmethod(lambda m: torch.optim.LBFGS(m.parameters(), lr=0.1, max_iter=2))


class Drops(Attention):
    """The dropout of attention weights draws out of reach."""

    def __init__(self):
        super().__init__()
        self.net[1] = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)


class Waits(Plain):
    configure = staticmethod(parts.Plateau.configure)


class Meddles(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        pl_module.net[0].weight.data.mul_(0.9)


FAILS = {
    "item": (Item, {}, r"\.item\(\)"),
    "f-string": (Written, {}, r"\.item\(\)"),
    "if": (Branches, {}, "control flow"),
    "mask": (Mask, {}, "boolean mask"),
    "unique": (Unique, {}, "unique"),
    "one-hot": (HotOfWhat, {}, "num_classes"),
    "lstm": (Recurrent, {}, "a layer LSTM, which vmap does not know"),
    "outer": (Outside, {}, "output with shape"),
    "metric": (Called, {}, "asks the metric accuracy for its value"),
    "hidden metric": (Hidden, {}, "."),
    "noise": (Noisy, {}, "random"),
    "attention": (Drops, {}, "random"),
    "draws": (Draws, {}, "a hook draws random numbers"),
    "negative": (Negative, {}, "negative variance"),
    "inside": (Watches, {}, "overrides on_train_batch_end, which is one replica's"),
    "lbfgs": (Curved, {}, "LBFGS is not known to work number by number"),
    "plateau": (Waits, {}, "waits for a plateau"),
    "by hand": (parts.ByHand, {}, "optimises by hand"),
    "callback": (Plain, {"callbacks": lambda seed: [Meddles()]}, "the callback Meddles"),
    "accumulation": (Plain, {"accumulate_grad_batches": 2}, "accumulate_grad_batches=2"),
    "least steps": (
        Plain,
        {"min_steps": 5, "callbacks": lambda seed: [EarlyStopping("loss")]},
        "inside an epoch",
    ),
}


@pytest.mark.parametrize("name", FAILS)
def test_what_a_stack_cannot_do_is_told(name):
    task, settings, why = FAILS[name]
    verdict = Verdict()
    before = torch.get_rng_state()
    with pytest.raises(NotPlain, match=why):
        fit_stack(stacks.members(task, 4, **settings), verdict)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float32


def test_few_are_fitted_one_by_one():
    with pytest.raises(NotPlain, match="3 at a time, and stacking pays from 4 on"):
        fit_stack(stacks.members(Plain, 3))


def test_replicas_must_be_replicas():
    stack = stacks.members(Plain, 4)
    stack[2].module.net[2].p = 0.5
    with pytest.raises(NotPlain, match=r"replicas differ in net\.2\.p"):
        fit_stack(stack, Verdict(""))


def test_of_unequal_sets():
    stack = [*stacks.members(Plain, 3), *stacks.members(Plain, 1, data=more)]
    with pytest.raises(NotPlain, match="differ"):
        fit_stack(stack)


def more(seed):
    return stacks.classes(seed, initial=14)


def test_large_steps_are_not_worth_it():
    """The count is of the module and its batch alone, and grows with both."""

    def rate(width, rows):
        (member,) = stacks.members(
            lambda: Classification(MLP(in_features=4, hidden=[width, width], outputs=3), 3), 1
        )
        stacks.alone(member)
        batch = torch.randn(rows, 4).double(), torch.arange(rows) % 3
        found = {nominal_rate(member.module, batch) for _ in range(2)}
        assert len(found) == 1
        return found.pop()

    assert rate(64, 32) < rate(256, 32) < rate(512, 64)
    assert rate(64, 32) < LIMIT < rate(512, 64)
