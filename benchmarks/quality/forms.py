"""Other forms of CGL, CGF, GCE and CPA beside those of BiGEL, on validation, one member each.

python benchmarks/quality/forms.py PRESET FOLDER_OF_ITS_DATA [--seeds 0,1] [--forms NAME,…]
    [--workspace .] [--set section.key=value]…

arXiv 2601.07294's abstract says what the modules are for, not their equations. x_k is what the
cascade says of a node under behavior k (x_K: the target's), g what the union graph says:

    shipped             CGL: X_k = n(P(Â_k, X_{k-1})),   CGF: x_k + σ(W[x_k; x_K] + c) ⊙ V x_K,
                        GCE: n(x + g),   CPA: between x_K and g
    residual cascade    CGL: X_k = n(P(Â_k, X_{k-1})) + X_{k-1}, as in CRGCN
    step by step        CGF from the next behavior's refined row in place of x_K
    no gate             CGF: x_k + V x_K
    plain sum           CGF: x_k + x_K
    exchange            CGF: (1 - σ) ⊙ x_k + σ ⊙ V x_K
    gated context       GCE: n(x + σ(W[x; g] + c) ⊙ g)
    convex context      GCE: n((1 - σ) ⊙ x + σ ⊙ g)
    linear context      GCE: n(A x + B g), A and B from the identity
    auxiliary alignment CPA: between x_K and the mean of x_k, k < K
    fused alignment     CPA: between z_K and g

Views (model.view, model.own_view) stand beside them as they are.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from validation import head, line, parser_of

from bigel.config import Config, load_config
from bigel.data.interactions import Interactions
from bigel.generators import make_generator
from bigel.graph import Graphs, Nodes
from bigel.graph.normalize import unit_rows
from bigel.graph.propagate import Side
from bigel.model.bigel import BiGEL, Embedded, States
from bigel.model.cascade import learn_cascade
from bigel.model.context import fuse
from bigel.model.feedback import CGF
from bigel.pipeline import run_pipeline
from bigel.rivals.base import World
from bigel.schema import VALID
from bigel.store import Workspace
from bigel.train.bigel import bigel_learner
from bigel.train.learner import Learner
from bigel.train.loop import use_threads, validate
from bigel.train.members import Fitted, trained_members


class Form(BiGEL):
    """BiGEL with hooks: ``refine`` is CGF, ``fuse`` the fusion of GCE, ``pair`` what CPA aligns."""

    def refine(self, feedback: CGF, k: int, rows: Sequence[Tensor]) -> Tensor:
        """Return X'_k, k < K, at B rows of X_1 … X_K."""
        refined: Tensor = feedback(k, rows[k], rows[-1])
        return refined

    def fuse(self, side: Side, refined_BD: Tensor, context_BD: Tensor) -> Tensor:
        """Return Z_k at B rows."""
        return fuse(refined_BD, context_BD)

    def pair(
        self, rows: Sequence[Tensor], z_BD: Tensor, context_BD: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what CPA aligns, at B rows of X_1 … X_K, Z_K and G."""
        return rows[-1], context_BD

    def embed(self, states: States, side: Side, rows: Sequence[Tensor]) -> Embedded:
        """Return Z_k at chosen rows of each behavior."""
        assert states.context is not None
        feedback = self.user_feedback if side == "users" else self.item_feedback
        assert feedback is not None
        z = []
        for k, indices in enumerate(rows):
            at = [getattr(nodes, side).index_select(0, indices) for nodes in states.cascade]
            context = getattr(states.context, side).index_select(0, indices)
            x = at[k] if k == len(rows) - 1 else self.refine(feedback, k, at)
            z.append(self.fuse(side, x, context))
        views = [
            view.embed(nodes, side, rows)
            for view, nodes in zip(self.views, states.views, strict=True)
        ]
        return Embedded(z, views, *self.pair(at, z[-1], context))


class ResidualCascade(Form):
    def forward(self, graphs: Graphs) -> States:
        states = super().forward(graphs)
        users, items, cascade = self.users, self.items, []
        for graph, n_layers in zip(graphs.cascade, self.layers, strict=True):
            (x,) = learn_cascade([graph], [n_layers], items, users)
            users = x.users if users is None else x.users + users
            items = x.items + items
            cascade.append(Nodes(users, items))
        return replace(states, cascade=cascade)

    def pair(
        self, rows: Sequence[Tensor], z_BD: Tensor, context_BD: Tensor
    ) -> tuple[Tensor, Tensor]:
        return unit_rows(rows[-1]), context_BD


class StepByStep(Form):
    def refine(self, feedback: CGF, k: int, rows: Sequence[Tensor]) -> Tensor:
        x = rows[-1]
        for j in reversed(range(k, len(rows) - 1)):
            x = feedback(j, rows[j], x)
        return x


class NoGate(Form):
    def refine(self, feedback: CGF, k: int, rows: Sequence[Tensor]) -> Tensor:
        return rows[k] + rows[-1] @ feedback.value[k]


class PlainSum(Form):
    def refine(self, feedback: CGF, k: int, rows: Sequence[Tensor]) -> Tensor:
        return rows[k] + rows[-1]


class Exchange(Form):
    def refine(self, feedback: CGF, k: int, rows: Sequence[Tensor]) -> Tensor:
        logit = torch.cat([rows[k], rows[-1]], 1) @ feedback.gate[k] + feedback.bias[k]
        return torch.lerp(rows[k], rows[-1] @ feedback.value[k], torch.sigmoid(logit))


class Fusing(Form):
    """A form whose fusion has weights W (2D, D) per side, and c (D,)."""

    def learn(self, initial_2DD: Tensor) -> None:
        """Set W's initial values, the same for both sides; c starts at zero."""
        self.fusion = nn.Parameter(initial_2DD.repeat(2, 1, 1))
        self.shift = nn.Parameter(torch.zeros(2, 1, initial_2DD.shape[1]))

    def mix(self, side: Side, refined_BD: Tensor, context_BD: Tensor) -> Tensor:
        """Return W[x; g] + c at B rows."""
        at = int(side == "items")
        both = torch.cat([refined_BD, context_BD], 1)
        return both @ self.fusion[at] + self.shift[at]


class GatedContext(Fusing):
    def fuse(self, side: Side, refined_BD: Tensor, context_BD: Tensor) -> Tensor:
        gate = torch.sigmoid(self.mix(side, refined_BD, context_BD))
        return unit_rows(refined_BD + gate * context_BD)


class ConvexContext(Fusing):
    def fuse(self, side: Side, refined_BD: Tensor, context_BD: Tensor) -> Tensor:
        gate = torch.sigmoid(self.mix(side, refined_BD, context_BD))
        return unit_rows(torch.lerp(refined_BD, context_BD, gate))


class LinearContext(Fusing):
    def fuse(self, side: Side, refined_BD: Tensor, context_BD: Tensor) -> Tensor:
        return unit_rows(self.mix(side, refined_BD, context_BD))


class AuxiliaryAlignment(Form):
    def pair(
        self, rows: Sequence[Tensor], z_BD: Tensor, context_BD: Tensor
    ) -> tuple[Tensor, Tensor]:
        return rows[-1], unit_rows(torch.stack(list(rows[:-1])).mean(0))


class FusedAlignment(Form):
    def pair(
        self, rows: Sequence[Tensor], z_BD: Tensor, context_BD: Tensor
    ) -> tuple[Tensor, Tensor]:
        return z_BD, context_BD


FORMS: dict[str, type[Form]] = {
    "shipped": Form,
    "residual cascade": ResidualCascade,
    "step by step": StepByStep,
    "no gate": NoGate,
    "plain sum": PlainSum,
    "exchange": Exchange,
    "gated context": GatedContext,
    "convex context": ConvexContext,
    "linear context": LinearContext,
    "auxiliary alignment": AuxiliaryAlignment,
    "fused alignment": FusedAlignment,
}


def learner_of(form: type[Form], world: World, config: Config, seed: int) -> Learner:
    """Return BiGEL's learner with its model in another form, of the same initial values."""
    learner = bigel_learner(world.train, world.graphs, config, world.device, seed)
    train = world.train
    size = (train.n_users, train.n_items, len(train.behaviors))
    model = form(config.model, *size, make_generator(seed, "weights"))
    if isinstance(model, Fusing):
        dim = config.model.dim
        if form is LinearContext:
            model.learn(torch.eye(dim).repeat(2, 1))
        else:
            bound, draw = (2 * dim) ** -0.5, make_generator(seed, "attention")
            model.learn(torch.empty(2 * dim, dim).uniform_(-bound, bound, generator=draw))
    return replace(learner, model=model.to(world.device))


def rows(args: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the table as they are measured."""
    config = load_config(args.preset, [f'data.path="{args.data}"', "train.members=1", *args.set])
    records = run_pipeline(config, Workspace(args.workspace), "graph").records
    world = World.load(records["split"], records["graph"], config)
    valid = Interactions.load(records["split"], VALID)
    yield from head(["form", "seed"], world.train.behaviors)
    for name in args.forms.split(",") if args.forms else FORMS:
        for seed in map(int, args.seeds.split(",")):
            started = time.perf_counter()
            mine = config.model_copy(
                update={"train": config.train.model_copy(update={"seed": seed})}
            )
            with tempfile.TemporaryDirectory() as scratch:
                members = trained_members(
                    partial(learner_of, FORMS[name], world, config),
                    world.train, valid, mine, world.device, Path(scratch),
                )  # fmt: skip
                fitted = Fitted.of(members)
            found = validate(fitted.scores, world.train, valid, config)
            yield line([name, seed], found, time.perf_counter() - started)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--forms", default="")
    args = parser.parse_args()
    with use_threads(load_config(args.preset, args.set).run.threads):
        for row in rows(args):
            print(row, flush=True)


if __name__ == "__main__":
    main()
