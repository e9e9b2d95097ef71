"""Running a plan: order, list mapping, laziness, hidden inputs, memory, errors."""

import gc
import weakref

import pytest
import torch

from undegrade.headless.execution import NodeError, execute
from undegrade.headless.load import document
from undegrade.headless.signature import Catalog
from undegrade.headless.validation import validate


def make(run, inputs=None, returns=("INT",), hidden=None, **attributes):
    """A V1 node class around a function."""
    required = {n: (k if isinstance(k, tuple) else (k,)) for n, k in (inputs or {}).items()}
    spec = {"required": required, "hidden": hidden or {}}
    return type("Fake", (), {"INPUT_TYPES": classmethod(lambda cls: spec), "RETURN_TYPES": returns,
                             "FUNCTION": "run", "run": staticmethod(run), **attributes})


class Watch:
    def __init__(self):
        self.order, self.shown = [], {}

    def started(self, node):
        self.order.append(node.id)

    def finished(self, node, ui):
        self.shown[node.id] = ui


def run(classes, raw, extra=None):
    sink = make(lambda value: {"ui": {"text": [str(value)]}}, {"value": "*"}, (), OUTPUT_NODE=True)
    catalog = Catalog({"Show": sink, **classes}, {})
    graph = document(raw, catalog).graph()
    assert validate(graph, catalog) == []
    watch = Watch()
    execute(graph, catalog, watch, extra)
    return watch


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def test_each_node_runs_once_after_its_sources_and_only_where_needed():
    calls = []

    def count(value):
        calls.append(value)
        return (value + 1,)

    classes = {"Count": make(count, {"value": "INT"}),
               "Add": make(lambda a, b: (a + b,), {"a": "INT", "b": "INT"})}
    raw = {"9": node("Show", value=["3", 0]), "1": node("Count", value=1),
           "3": node("Count", value=["2", 0]), "2": node("Count", value=["1", 0]),
           "5": node("Count", value=70), "8": node("Show", value=["2", 0])}
    watch = run(classes, raw)
    assert watch.order == ["1", "2", "3", "9", "8"]
    assert calls == [1, 2, 3]
    assert watch.shown["9"] == {"text": ["4"]}
    raw = {"1": node("Count", value=1), "2": node("Count", value=2),
           "3": node("Add", a=["2", 0], b=["1", 0]), "4": node("Show", value=["3", 0])}
    assert run(classes, raw).order == ["2", "1", "3", "4"]  # sources in the order of the inputs


def test_runs_under_inference_mode():
    seen = []
    classes = {"A": make(lambda: (seen.append(torch.is_inference_mode_enabled()),))}
    run(classes, {"1": node("A"), "2": node("Show", value=["1", 0])})
    assert seen == [True]
    assert not torch.is_inference_mode_enabled()


def test_lists_are_mapped_and_the_last_element_repeats():
    calls = []
    classes = {
        "Many": make(lambda: ([1, 2, 3], "x"), returns=("INT", "STRING"),
                     OUTPUT_IS_LIST=(True, False)),
        "Two": make(lambda: ([10, 20],), OUTPUT_IS_LIST=(True,)),
        "Add": make(lambda a, b, c: (calls.append((a, b, c)) or a + b + c,),
                    {"a": "INT", "b": "INT", "c": "INT"}),
        "Sum": make(lambda v: (sum(v), len(v)), {"v": "INT"}, ("INT", "INT"), INPUT_IS_LIST=True)}
    raw = {"1": node("Many"), "2": node("Two"), "3": node("Add", a=["1", 0], b=["2", 0], c=100),
           "4": node("Sum", v=["3", 0]), "5": node("Show", value=["4", 0]),
           "6": node("Show", value=["3", 0]), "7": node("Show", value=["1", 1])}
    watch = run(classes, raw)
    assert calls == [(1, 10, 100), (2, 20, 100), (3, 20, 100)]
    assert watch.shown["5"] == {"text": ["356"]}  # 111 + 122 + 123
    assert watch.shown["6"] == {"text": ["111", "122", "123"]}
    assert watch.shown["7"] == {"text": ["x"]}


def test_output_lists_of_a_mapped_node_are_joined():
    classes = {"Two": make(lambda: ([1, 2],), OUTPUT_IS_LIST=(True,)),
               "Twice": make(lambda v: ([v, v],), {"v": "INT"}, OUTPUT_IS_LIST=(True,))}
    raw = {"1": node("Two"), "2": node("Twice", v=["1", 0]), "3": node("Show", value=["2", 0])}
    assert run(classes, raw).shown["3"] == {"text": ["1", "1", "2", "2"]}


def test_hidden_inputs():
    got = {}

    def look(**given):
        got.update(given)
        return (0,)

    classes = {"Look": make(look, hidden={"prompt": "PROMPT", "info": "EXTRA_PNGINFO",
                                          "me": "UNIQUE_ID", "other": "DYNPROMPT"})}
    raw = {"17": node("Look"), "2": node("Show", value=["17", 0])}
    run(classes, raw, {"workflow": {"a": 1}})
    assert got["me"] == "17"
    assert got["info"] == {"workflow": {"a": 1}}
    assert got["prompt"]["2"]["inputs"] == {"value": ["17", 0]}
    assert "other" not in got


def test_results_as_dict():
    classes = {"Both": make(lambda: {"ui": {"text": ("hello",)}, "result": (5,)}, OUTPUT_NODE=True)}
    watch = run(classes, {"1": node("Both"), "2": node("Show", value=["1", 0])})
    assert watch.shown == {"1": {"text": ["hello"]}, "2": {"text": ["5"]}}


@pytest.mark.parametrize(("which", "expected"), [(True, ["1", "3"]), (False, ["2", "3"])])
def test_lazy_inputs_are_computed_only_when_asked_for(which, expected):
    calls = []

    def choose(which, yes, no):
        return (yes if which else no,)

    def asks(which, yes, no):
        wanted, value = ("yes", yes) if which else ("no", no)
        return [wanted] if value is None else []

    lazy = ("INT", {"lazy": True})
    classes = {"Say": make(lambda v: (calls.append(v) or v,), {"v": "INT"}),
               "Choose": make(choose, {"which": "BOOLEAN", "yes": lazy, "no": lazy},
                              check_lazy_status=staticmethod(asks))}
    raw = {"1": node("Say", v=10), "2": node("Say", v=20),
           "3": node("Choose", which=which, yes=["1", 0], no=["2", 0]),
           "4": node("Show", value=["3", 0])}
    watch = run(classes, raw)
    assert watch.order[:-1] == expected
    assert calls == [10 if which else 20]


def test_outputs_are_freed_as_soon_as_nobody_needs_them():
    alive, born = {}, []

    class Thing:
        pass

    def give(name, before=None):
        gc.collect()
        alive[name] = [n for n, ref in born if ref() is not None]
        thing = Thing()
        born.append((name, weakref.ref(thing)))
        return (thing,)

    classes = {"First": make(give, {"name": "STRING"}, ("T",)),
               "Next": make(give, {"name": "STRING", "before": "T"}, ("T",)),
               "End": make(give, {"name": "STRING"}, ("T",), OUTPUT_NODE=True)}
    raw = {"1": node("First", name="a"), "2": node("Next", name="b", before=["1", 0]),
           "3": node("Next", name="c", before=["2", 0]),
           "4": node("Next", name="d", before=["3", 0]), "5": node("Show", value=["4", 0])}
    run(classes, {"0": node("End", name="unread"), **raw})
    assert alive == {"unread": [], "a": [], "b": ["a"], "c": ["b"], "d": ["c"]}


@pytest.mark.parametrize(("error", "sentence"), [
    (ValueError("the picture is  empty.\nGive another."),
     "node 1 (Fail) failed: the picture is empty. Give another."),
    (ZeroDivisionError("division by zero"),
     "node 1 (Fail) failed: ZeroDivisionError: division by zero."),
    (AssertionError(), "node 1 (Fail) failed: AssertionError."),
])
def test_errors_become_one_sentence(error, sentence):
    def fail():
        raise error

    with pytest.raises(NodeError) as caught:
        run({"Fail": make(fail)}, {"1": node("Fail"), "2": node("Show", value=["1", 0])})
    assert str(caught.value) == sentence
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(("result", "text"), [
    (5, "returned int; a node returns a tuple or a dict"),
    ({"expand": {}}, "expands into other nodes"),
    ((), "it gave 0 outputs; node 2 .Show. needs number 0"),
])
def test_results_nobody_can_use(result, text):
    with pytest.raises(NodeError, match=text):
        run({"Odd": make(lambda: result)}, {"1": node("Odd"), "2": node("Show", value=["1", 0])})


def test_an_empty_list_is_an_error_of_the_node_that_gets_it():
    classes = {"None": make(lambda: ([],), OUTPUT_IS_LIST=(True,))}
    with pytest.raises(NodeError, match=r"node 2 \(Show\) failed: input 'value' got an empty list"):
        run(classes, {"1": node("None"), "2": node("Show", value=["1", 0])})


def test_stopping_is_not_an_error_of_the_node():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run({"Stop": make(stop)}, {"1": node("Stop"), "2": node("Show", value=["1", 0])})
