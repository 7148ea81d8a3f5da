"""A policy as one ONNX file, and the file at work without the weights on torch's side.

The numbers of users and of points stay open in the graph (:mod:`.graphs`). The card and a hash of
the file lie in its metadata. Writing takes onnx, running takes onnxruntime: ``pip install
'lightning-al[onnx]'``.
"""

from __future__ import annotations

import hashlib
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .card import Card
from .fused import Fused
from .gate import pass_or_refuse
from .graphs import Graph, flexible_policy, set_policy
from .limits import Limits
from .networks import FlexiblePolicy, PolicyNetwork
from .scales import Outcomes

__all__ = ["Exported", "write"]

OPSET, IR = 23, 11  # the first one with attention, and its format of files
CARD, DIGEST = "lightning_al.card", "lightning_al.sha256"
BLANK = "0" * 64  # stands for the hash while the hash is taken


class Exported:
    """A policy in an ONNX file, run by onnxruntime on the CPU; see :meth:`load`."""

    def __init__(self, session: Any, card: Card) -> None:
        self.card, self._session = card, session
        self._outcomes = Outcomes()
        settings = card.settings
        self._limits = Limits(
            settings["dimension"],
            settings["safe"],
            card.kind == "FlexiblePolicy",
            card.history,
            card.budget,
        )
        self._aware = settings["budget_aware"]

    @classmethod
    def load(cls, path: str | Path, threads: int = 1, *, unchecked: bool = False) -> Exported:
        """The policy that :meth:`Policy.export` wrote.

        Args:
            path: the file.
            threads: of onnxruntime; more than one is worth it for many users at once only.
            unchecked: see :meth:`Policy.load`.

        Raises:
            ImportError: onnxruntime is missing.
            LookupError: no such file.
            ValueError: damaged, not written by this package, of another format, or a policy that
                falls short of what its card promises.
        """
        runtime = _needed("onnxruntime")
        path = Path(path)
        if not path.is_file():
            raise LookupError(f"no file {path}; write it with policy.export({path.name!r})")
        data = path.read_bytes()
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        try:
            session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # it has a dozen kinds, none of them public
            raise ValueError(
                f"{path} cannot be run by onnxruntime {runtime.__version__}; expected is the whole "
                "of a file that policy.export wrote, and onnxruntime 1.23 or newer; export it "
                f"again. It says: {error}"
            ) from None
        found = session.get_modelmeta().custom_metadata_map
        if CARD not in found or DIGEST not in found:
            raise ValueError(
                f"{path} is an ONNX file without a policy's card, got the metadata "
                f"{sorted(found)}; write it with policy.export"
            )
        card = Card.read(found[CARD], str(path))
        if _digest(data, found[DIGEST]) != found[DIGEST]:
            raise ValueError(
                f"{path} is not as it was written: its hash is another one; export it again"
            )
        pass_or_refuse(card, path.name, unchecked)
        return cls(session, card)

    def query(self, x: Any, y: Any, budget: Any, z: Any = None) -> Tensor:
        """The next query [D], or [B, D]; as :meth:`Policy.query`, errors and warnings too."""
        points, single = self._limits.points(x, y, z)
        self._outcomes = Outcomes(said=self._outcomes.said).told(points, self._limits.outcomes)
        left = self._limits.left(budget, len(points))
        feed = {"points": points, "budget": left} if self._aware else {"points": points}
        found = torch.from_numpy(self._session.run(None, feed)[0])
        return found[0] if single else found


def write(network: PolicyNetwork, engine: Any, card: Card, path: str | Path) -> Path:
    """Write a policy as ONNX; returns the path, which ends with ".onnx".

    Args:
        network: of the policy.
        engine: its network as it is asked, fused where it can be.
        card: what the policy is for.
        path: of the file.

    Raises:
        ImportError: onnx is missing.
        NotImplementedError: its network is one of your own.
    """
    onnx = _needed("onnx")
    graph = Graph(onnx)
    if isinstance(engine, Fused):
        set_policy(graph, engine)
    elif type(network) is FlexiblePolicy:
        flexible_policy(graph, network, card.budget)
    else:
        raise NotImplementedError(
            "only policies with a SetPolicy or a FlexiblePolicy can be exported, this one has a "
            f"{type(network).__name__}; use Policy.query"
        )
    flexible = isinstance(network, FlexiblePolicy)
    path = Path(path)
    path = path if path.suffix == ".onnx" else path.with_name(path.name + ".onnx")
    spec, kinds = onnx.helper.make_tensor_value_info, onnx.TensorProto
    outcomes, dim = network.branches, network.dimension
    inputs = [
        spec("points", kinds.FLOAT, ["users", "n", "columns" if flexible else dim + outcomes])
    ]
    if network.budget_aware:
        inputs.append(spec("budget", kinds.INT64, ["users"]))
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "policy",
            inputs,
            [spec("query", kinds.FLOAT, ["users", "inputs" if flexible else dim])],
            graph.weights,
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="lightning-al",
    )
    text = card.text(settings=network.settings, sha256=None)
    onnx.helper.set_model_props(model, {CARD: text, DIGEST: BLANK})
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    digest = _digest(data, BLANK)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.replace(BLANK.encode(), digest.encode(), 1))
    return path


def _digest(data: bytes, found: str) -> str:
    """Hash of a file that holds its own hash, which counts as blank."""
    return hashlib.sha256(data.replace(found.encode(), BLANK.encode(), 1)).hexdigest()


def _needed(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"an exported policy needs {name}, which is not installed ({error}); pip install "
            "'lightning-al[onnx]'"
        ) from None
