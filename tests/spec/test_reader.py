"""One reader of specifications: every way of writing a part down, and what is refused at once."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import pytest
import torch
from torch import Tensor, nn

from lightning_al.assembly.families import FAMILIES, FEATURES, ORACLES, RULES, make
from lightning_al.registry import Registry
from lightning_al.spec import call, converted, find, notes, read, said, signature, summary

HERE = __name__
MEMBERS = [
    (family, name)
    for family in {id(f): f for f in FAMILIES.values()}.values()
    for name in family.names()
]


@runtime_checkable
class Lamp(Protocol):
    """What shines."""

    colour: str

    def shine(self, hours: int) -> float: ...


class Bulb:
    """A lamp.

    Args:
        watts: of power.
        lamp: one inside.
    """

    built = 0

    def __init__(self, watts: float = 40.0, lamp: Any = None) -> None:
        Bulb.built += 1
        self.watts, self.lamp, self.colour = watts, lamp, "white"

    def shine(self, hours: int) -> float:
        return self.watts * hours


class Brick:
    """Nothing that shines."""

    built = 0

    def __init__(self) -> None:
        Brick.built += 1


class Dark(Bulb):
    """A lamp of no colour."""

    def __init__(self) -> None:
        super().__init__()
        del self.colour


def says_so(watts: float = 25.0) -> Lamp:
    return Bulb(watts)


def says_nothing(watts=25.0):
    raise AssertionError("called, and it did not say that it makes a lamp")


def says_otherwise() -> Brick:
    raise AssertionError("called, and it said that it makes a brick")


BULB = Bulb(7.0)


@pytest.fixture
def lamps():
    registry: Registry = Registry("lamp", contract=Lamp, suffix="Lamp")
    registry.register("BulbLamp")(Bulb)
    registry.register("promised")(says_so)
    return registry


# --- forms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "watts"),
    [
        ("BulbLamp", 40.0),
        ("Bulb", 40.0),  # without the suffix
        ({"name": "Bulb", "watts": 3}, 3.0),
        ({"class_path": "promised", "init_args": {"watts": "1e2"}}, 100.0),
        (f"{HERE}.Bulb", 40.0),
        ({"class_path": f"{HERE}.Bulb"}, 40.0),
        ({"class_path": f"{HERE}.Bulb", "init_args": None}, 40.0),
        ({"name": f"{HERE}.says_so", "watts": 5}, 5.0),
        (f"{HERE}.BULB", 7.0),
        (BULB, 7.0),
    ],
)
def test_every_way_of_writing_it_down(lamps, spec, watts):
    made = read(spec, lamps)
    assert isinstance(made, Bulb)
    assert made.watts == watts
    assert isinstance(made.watts, float)


def test_a_member_is_returned_as_it_is_and_a_specification_is_left_alone(lamps):
    assert read(BULB, lamps) is BULB
    assert read(f"{HERE}.BULB", lamps) is BULB
    spec = {"class_path": "Bulb", "init_args": {"watts": "3", "lamp": {"name": "Bulb"}}}
    read(spec, lamps)
    assert spec == {"class_path": "Bulb", "init_args": {"watts": "3", "lamp": {"name": "Bulb"}}}


def test_an_argument_called_like_the_family_is_read_by_the_same_reader(lamps):
    made = read({"name": "Bulb", "lamp": {"name": "Bulb", "lamp": "promised"}}, lamps)
    assert (made.lamp.watts, made.lamp.lamp.watts) == (40.0, 25.0)
    assert read({"name": "Bulb", "lamp": BULB}, lamps).lamp is BULB
    with pytest.raises(ValueError, match="lamp 'Bulb': no argument 'watt'"):
        read({"name": "Bulb", "lamp": {"name": "Bulb", "watt": 1}}, lamps)


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        ("Blub", LookupError, "no lamp named 'Blub'.*choose one of BulbLamp, promised"),
        ("no_such.Lamp", LookupError, "no lamp at 'no_such.Lamp'.*or one of BulbLamp, promised"),
        (f"{HERE}.Bulbe", LookupError, "did you mean 'Bulb'"),
        (7, ValueError, "a lamp is a name, a dict with 'name' or 'class_path', or a lamp object"),
        (Bulb, ValueError, "give an instance of it"),
        ({"watts": 3}, ValueError, "'name' and arguments.*got .'watts'."),
        ({"class_path": "Bulb", "watts": 3}, ValueError, "'init_args'"),
        ({"name": 3}, ValueError, "named by a text"),
        ({"class_path": "Bulb", "init_args": [3]}, ValueError, "init_args are a dict"),
        ({"name": "Bulb", "watts": "many"}, ValueError, "watts must be a float, got 'many'"),
        ({"name": "Bulb", "watts": None}, ValueError, "watts must be a float, got None"),
        ({"name": "Bulb", "wats": 3}, ValueError, "'wats' .did you mean 'watts'.*takes watts=40.0"),
        (f"{HERE}.Dark", ValueError, f"it lacks colour .see {HERE}.Lamp"),
    ],
)
def test_what_is_refused(lamps, spec, error, says):
    with pytest.raises(error, match=says):
        read(spec, lamps)


# --- a path is limited to what the option is for -------------------------------------------------


def test_what_cannot_be_a_member_is_not_even_called(lamps, tmp_path):
    before = Brick.built
    trace = tmp_path / "trace"
    for path, arguments, says in (
        (f"{HERE}.Brick", {}, "it has no method shine"),
        (f"{HERE}.says_nothing", {}, r"def says_nothing\(…\) -> Lamp"),
        (f"{HERE}.says_otherwise", {}, "-> Lamp"),
        ("os.system", {"command": f"touch {trace}"}, "no method shine"),
        ("pathlib.Path.cwd", {}, "no lamp at"),
        ("subprocess.run", {"args": ["touch", str(trace)]}, "-> Lamp"),
        ("math.pi", {}, "no method shine"),
    ):
        with pytest.raises((ValueError, LookupError), match=says):
            read({"class_path": path, "init_args": arguments}, lamps)
    assert Brick.built == before
    assert not trace.exists()


def test_wrong_arguments_are_said_before_anything_is_built(lamps):
    before = Bulb.built
    for spec in ({"name": "Bulb", "watts": "x"}, {"name": f"{HERE}.Bulb", "volts": 3}):
        with pytest.raises(ValueError, match=r"it takes watts=40\.0, lamp=None"):
            read(spec, lamps)
    assert Bulb.built == before


def test_where_members_are_callables_a_function_is_one_itself():
    assert make(FEATURES, "torch.relu") is torch.relu
    assert make(RULES, f"{HERE}.enough") is enough
    with pytest.raises(ValueError, match="it takes no arguments"):
        make(RULES, {"class_path": f"{HERE}.enough", "init_args": {"rounds": 3}})


def enough(rounds: Sequence[Any]) -> str | None:
    return "enough" if rounds else None


def test_a_base_class_is_a_contract_too():
    networks: Registry = Registry("network", contract=nn.Module)
    spec = {"class_path": "torch.nn.Linear", "init_args": {"in_features": "3", "out_features": 2}}
    assert read(spec, networks).weight.shape == (2, 3)
    with pytest.raises(ValueError, match=r"json\.JSONDecoder is no network: it is no Module"):
        read("json.JSONDecoder", networks)


def holder(module: nn.Module) -> nn.Module:
    return nn.Sequential(module)


def test_a_class_that_an_argument_asks_for_is_read_too():
    made = call(holder, {"module": {"class_path": "torch.nn.ReLU"}}, "it")
    assert isinstance(made[0], nn.ReLU)
    with pytest.raises(ValueError, match=r"json\.JSONDecoder is no Module"):
        call(holder, {"module": {"class_path": "json.JSONDecoder"}}, "it")
    with pytest.raises(ValueError, match="it: module must be a Module, got 3"):
        call(holder, {"module": 3}, "it")


def test_find_says_what_was_wanted():
    assert find("math.sqrt", "root", "give one")(9) == 3
    with pytest.raises(LookupError, match=r"at 'math\.sqrd' \(did you mean 'sqrt'\?\); give one"):
        find("math.sqrd", "root", "give one")
    with pytest.raises(LookupError, match="no root at 'sqrt'"):
        find("sqrt", "root", "give one")


# --- types ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "hint", "wanted"),
    [
        (2, float, 2.0),
        ("1e-3", float, 0.001),
        ("7", int, 7),
        ("true", bool, True),
        ("evidence", float | str, "evidence"),
        (None, float | None, None),
        (3, int | float, 3),
        (0.5, int | float, 0.5),
        ((1, 2), Sequence[float], (1.0, 2.0)),
        ([1, "2"], list[float] | None, [1.0, 2.0]),
        ("[1, 2]", Sequence[int], [1, 2]),
        ("b", Literal["a", "b"], "b"),
        ({"a": [1]}, Mapping[str, Any], {"a": [1]}),
        ([{"name": "x"}, "3"], Sequence[Any], [{"name": "x"}, "3"]),
        ("3", Any, "3"),
        (5, int | Sequence[int] | Tensor, 5),
    ],
)
def test_plain_values_become_what_the_type_says(value, hint, wanted):
    got = converted(value, hint)
    assert got == wanted
    assert type(got) is type(wanted)
    if isinstance(wanted, list | tuple):
        assert [type(v) for v in got] == [type(v) for v in wanted]


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("x", float),
        (True, float),
        (2.5, int),
        (1, bool),
        (3, str),
        (None, int),
        ("c", Literal["a", "b"]),
        ("ab", Sequence[int]),
        ("ab", Sequence[Any]),  # a text is no list of its letters
        ([1, "x"], Sequence[float]),
        (3, Mapping[str, Any]),
        ("x", int | Sequence[int] | Tensor),
        (3, Callable[[Any], Any]),
        (3, nn.Module),
    ],
)
def test_a_value_of_another_type_is_refused(value, hint):
    with pytest.raises(TypeError):
        converted(value, hint)


@pytest.mark.parametrize("hint", [float, int | None, Sequence[int] | Tensor, Callable[..., Any]])
def test_objects_pass(hint):
    for thing in (torch.ones(2), torch.sum, Path("x"), [torch.ones(1)]):
        assert converted(thing, hint) is thing


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (float, "a float"),
        (int | None, "an int or None"),
        (Literal["a", "b", "c"], "'a', 'b' or 'c'"),
        (int | Sequence[int] | Tensor, "an int, a list of int or a Tensor"),
        (Sequence[Sequence[float]], "a list of lists"),
        (Callable[..., Tensor] | str, "a function or a str"),
        (Mapping[str, Any], "a mapping"),
    ],
)
def test_types_in_words(hint, words):
    assert said(hint) == words


# --- everything that is shipped ------------------------------------------------------------------


def wrong_for(hint):
    """A plain value that a type does not take, by its text; None where any may do."""
    text = str(hint)
    if "Literal" in text or not any(word in text for word in ("str", "Any", "Path", "Callable")):
        return "no such value"
    return None if "Any" in text or "Callable" in text else {"no": "such value"}


@pytest.mark.parametrize(("family", "name"), MEMBERS, ids=[f"{f.kind} {n}" for f, n in MEMBERS])
def test_every_argument_of_every_member_is_checked_by_its_type(family, name):
    factory = family.factory(name)
    inner = (family.kind, "score", "filter", "then", "first", "search")
    for parameter in signature(factory).parameters.values():
        if parameter.hint is Any:  # a part that is read by its own family
            assert parameter.name in inner
            continue
        wrong = wrong_for(parameter.hint)
        if wrong is None:
            continue
        needed = {n: "0.5" for n, p in signature(factory).parameters.items() if p.required}
        says = f"{family.kind} '{name}': {parameter.name} must be .*, got .*; it takes "
        with pytest.raises(ValueError, match=says):
            read({"class_path": name, "init_args": {**needed, parameter.name: wrong}}, family)


@pytest.mark.parametrize(("family", "name"), MEMBERS, ids=[f"{f.kind} {n}" for f, n in MEMBERS])
def test_every_member_says_what_it_is_and_what_each_argument_does(family, name):
    factory = family.factory(name)
    assert summary(factory)
    assert set(signature(factory).parameters) <= set(notes(factory))


# --- the rest ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Base:
    """A base.

    Args:
        a: the first.
    """

    a: int = 1


@dataclass(frozen=True)
class Derived(Base):
    """A derived one.

    Args:
        b: the second, see :func:`math.sqrt` and ``a``.
    """

    b: "float | None" = None


def test_signatures_and_notes_are_those_of_the_bases_too():
    assert str(signature(Derived)) == "a=1, b=None"
    assert signature(Derived).parameters["b"].hint == float | None
    assert notes(Derived) == {"a": "the first", "b": "the second, see math.sqrt and a"}
    assert str(signature(partial(says_so, watts=3.0))) == "watts=3.0"
    assert str(signature(Brick)) == "no arguments"


def open_handed(first: int, **more: Any) -> dict[str, Any]:
    return {"first": first, **more}


def test_a_factory_that_takes_anything_gets_it():
    assert call(open_handed, {"first": "1", "second": "2"}, "it") == {"first": 1, "second": "2"}
    with pytest.raises(ValueError, match="it: first must be given"):
        call(open_handed, {"second": 2}, "it")


def unknown_names(a: "NoSuchType", b: int = 1) -> None:  # noqa: F821
    """One type is a name that only a type checker would find."""


def test_a_type_that_cannot_be_looked_up_is_not_checked():
    call(unknown_names, {"a": "anything"}, "it")
    with pytest.raises(ValueError, match="b must be an int"):
        call(unknown_names, {"a": "anything", "b": "at all"}, "it")


def test_an_error_inside_a_factory_is_its_own():
    def broken(a: int = 1) -> None:
        raise TypeError("inside")

    with pytest.raises(TypeError, match="inside"):
        call(broken, {}, "it")


def test_oracles_go_around_each_other():
    made = make(
        ORACLES, {"name": "Delayed", "delay": "2", "oracle": {"name": "Noisy", "sd": "1e-1"}}
    )
    assert (made.delay, made.oracle.sd) == (2, 0.1)
    assert make(ORACLES, None) is None


def test_a_name_alone_needs_no_parser_and_no_lightning():
    program = (
        "import sys; from lightning_al.strategies import build; build('margin'); "
        "print([m for m in ('jsonargparse', 'pytorch_lightning', 'docstring_parser') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"
