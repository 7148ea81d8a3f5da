"""A study of one's own, as it stands beside the package."""

from dataclasses import dataclass
from typing import ClassVar

from matplotlib.figure import Figure

from lightning_al.benchmark.study import Additions, Cell, Column, Picture, Study, Table, Verdict


@dataclass(frozen=True)
class Mine(Study):
    """Counts the runs of each strategy, and wants some of them."""

    least: int = 1
    name: ClassVar[str] = "a study of <mine>"

    def check(self, runs):
        if self.least > len(runs):
            raise ValueError(f"least is at most {len(runs)}, the runs of the grid")

    def additions(self, setting, evidence):
        count = setting.runs.groupby("strategy").size()
        figure = Figure()
        figure.add_subplot().plot([1, 2], [3, 4], label="<drawn>")
        there = "yes" if evidence.folders else "no"
        return Additions(
            title="Mine <b>first</b>",
            columns=[Column("how <many>", {"random": Cell(f"just {count['random']}", "better")})],
            notes=["counted <twice>"],
            sentences=[f"random ran {count['random']} times, folders: {there}."],
            pictures=[
                Picture("beside", figure, "A <small> one."),
                Picture("below", figure, "A large one.", wide=True),
            ],
            tables=[
                Table("Table <mine>", ["a", "b"], [[Cell("c <d>"), Cell("e", "worse")]], "end")
            ],
        )

    def verdict(self, runs, evidence):
        done = evidence.frame.loc[evidence.frame["status"] == "done", "run_id"].nunique()
        holds = done >= self.least
        return Verdict([f"mine: {done} of {len(runs)}, asked {self.least}"], holds)


class Nameless(Study):
    """Forgot what the page should call it."""
