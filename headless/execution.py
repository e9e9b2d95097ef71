"""Runs a plan: each node on demand, list mapping as in ComfyUI, memory freed at the earliest.

Inside a run every output is a list of values; most have one element. A node that takes single
values is called once for each place of its longest list, shorter lists repeating their last
element (INPUT_IS_LIST: called once with the lists; OUTPUT_IS_LIST: the results are joined).
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from .blueprints import counted
from .graph import Graph, Link, Node
from .signature import Catalog
from .validation import output_nodes

EXPECTED_ERRORS = (ValueError, TypeError, FileNotFoundError, MemoryError)  # they explain themselves


class Observer(Protocol):
    """Who is told about a run."""

    def started(self, node: Node) -> None:
        """A node is about to be computed."""

    def finished(self, node: Node, ui: dict[str, list]) -> None:
        """A node is done; ``ui`` is what it wants shown, such as ``text`` or ``images``."""


class NodeError(RuntimeError):
    """A node failed; the message is one sentence and ``__cause__`` the node's own exception."""


def execute(graph: Graph, catalog: Catalog, observer: Observer,
            extra_pnginfo: dict[str, Any] | None = None,
            targets: Collection[str] | None = None,
            given: Mapping[str, list[list]] | None = None) -> dict[str, list[list]]:
    """Run everything the targets need, under ``torch.inference_mode`` as ComfyUI does.

    Args:
        graph: a plan without problems (see ``validation``).
        catalog: the node classes.
        observer: told of each node's start and end.
        extra_pnginfo: given to nodes that ask for EXTRA_PNGINFO.
        targets: the nodes to run; the output nodes if None.
        given: outputs of nodes that an earlier run computed, so that this one need not.

    Returns:
        The outputs of the ``targets``; nothing if None were named.

    Raises:
        NodeError: a node raised, or returned something ComfyUI could not use.
    """
    import torch

    with torch.inference_mode():
        wanted = output_nodes(graph, catalog) if targets is None else targets
        run = _Run(graph, catalog, observer, {
            "PROMPT": graph.prompt(), "EXTRA_PNGINFO": extra_pnginfo}, wanted, given or {})
        run.readers.update(targets or ())  # their outputs have one more reader: the caller
        for target in wanted:
            run.pull(target)
        return {target: run.outputs[target] for target in targets or ()}


class _Run:
    """The state of one run: instances, outputs still needed, and how often they are."""

    def __init__(self, graph: Graph, catalog: Catalog, observer: Observer, hidden: dict[str, Any],
                 targets: Collection[str], given: Mapping[str, list[list]]):
        self.graph, self.catalog, self.observer, self.hidden = graph, catalog, observer, hidden
        self.instances: dict[str, Any] = {}
        self.outputs: dict[str, list[list]] = dict(given)
        self.done = set(given)
        needed = graph.upstream(targets)
        self.readers = Counter(s for i in needed for s in self._sources(graph.nodes[i]))

    def pull(self, target: str) -> None:
        """Compute a node after everything it needs."""
        waiting = [target]
        while waiting:
            node = self.graph.nodes[waiting[-1]]
            missing = [] if node.id in self.done else self._missing(node)
            if missing:
                waiting += reversed(missing)
                continue
            waiting.pop()
            if node.id not in self.done:
                self._compute(node)

    def _missing(self, node: Node) -> list[str]:
        """The sources to compute before the node; lazy inputs only once the node asks for them."""
        links = {n: x.source for n, x in node.links.items() if x.source not in self.done}
        instance, inputs = self._instance(node), self.catalog[node.type].inputs
        asks = hasattr(instance, "check_lazy_status")
        eager = [s for n, s in links.items() if not (asks and inputs[n].options.get("lazy"))]
        if eager or not links:
            return eager
        arguments = self._arguments(node)
        answers = _guarded(node, lambda: map_lists(
            instance.check_lazy_status, arguments, getattr(instance, "INPUT_IS_LIST", False)))
        asked = {name for names in answers for name in names or ()}
        return [source for name, source in links.items() if name in asked]

    def _compute(self, node: Node) -> None:
        instance = self._instance(node)
        arguments = self._arguments(node)
        self.observer.started(node)
        outputs, ui = _guarded(node, lambda: merge(map_lists(
            getattr(instance, instance.FUNCTION), arguments,
            getattr(instance, "INPUT_IS_LIST", False)), instance))
        self.done.add(node.id)
        if self.readers[node.id]:
            self.outputs[node.id] = outputs
        for source in self._sources(node):
            self.readers[source] -= 1
            if not self.readers[source]:
                self.outputs.pop(source, None)
        self.observer.finished(node, ui)

    def _arguments(self, node: Node) -> dict[str, list]:
        arguments: dict[str, list] = {}
        for name, value in node.inputs.items():
            if not isinstance(value, Link):
                arguments[name] = [value]
            elif value.source in self.done:
                outputs = self.outputs[value.source]
                if value.slot >= len(outputs):
                    gave = f"it gave {counted(len(outputs), 'output')}"
                    raise NodeError(f"{self.graph.nodes[value.source]} failed: {gave}; {node} "
                                    f"needs number {value.slot}.")
                arguments[name] = outputs[value.slot]
            else:
                arguments[name] = [None]  # a lazy input that was not asked for
        given = {**self.hidden, "UNIQUE_ID": node.id}
        declared = self.catalog[node.type].hidden
        return arguments | {n: [given[kind]] for n, kind in declared.items() if kind in given}

    def _instance(self, node: Node) -> Any:
        if node.id not in self.instances:
            self.instances[node.id] = _guarded(node, self.catalog[node.type].node_class)
        return self.instances[node.id]

    @staticmethod
    def _sources(node: Node) -> set[str]:
        return {link.source for link in node.links.values()}


def map_lists(function: Callable, arguments: dict[str, list], whole: bool) -> list:
    """Call a node's function as often as its longest input list is long.

    Args:
        function: the node's method.
        arguments: name -> list of values.
        whole: INPUT_IS_LIST, call once with the lists themselves.

    Returns:
        One result per call.

    Raises:
        ValueError: an input list is empty.
    """
    if whole:
        return [function(**arguments)]
    for name, values in arguments.items():
        if not values:
            raise ValueError(f"input {name!r} got an empty list; it needs at least one element")
    length = max(map(len, arguments.values()), default=1)
    return [function(**{n: v[min(i, len(v) - 1)] for n, v in arguments.items()})
            for i in range(length)]


def merge(results: list, node: Any) -> tuple[list[list], dict[str, list]]:
    """Join the results of a node's calls.

    Args:
        results: what each call returned: a tuple, or a dict with ``ui`` and ``result``.
        node: the instance, for its OUTPUT_IS_LIST.

    Returns:
        One list of values per output, and the ``ui`` entries of all calls joined by key.

    Raises:
        TypeError: a call returned something else.
    """
    ui: dict[str, list] = {}
    rows = []
    for result in results:
        if isinstance(result, dict):
            if "expand" in result:
                raise TypeError("expands into other nodes, which only ComfyUI itself can run")
            for key, shown in (result.get("ui") or {}).items():
                ui.setdefault(key, []).extend([shown] if isinstance(shown, str) else shown)
            result = result.get("result", ())
        if result is None:
            result = ()
        if not isinstance(result, tuple | list):
            raise TypeError(f"returned {type(result).__name__}; a node returns a tuple or a dict")
        rows.append(result)
    width = min(map(len, rows), default=0)
    joined = getattr(node, "OUTPUT_IS_LIST", (False,) * width)
    outputs = [
        [value for row in rows for value in row[i]] if joined[i] else [row[i] for row in rows]
        for i in range(width)
    ]
    return outputs, ui


def _guarded(node: Node, action: Callable) -> Any:
    """Run a node's own code; whatever it raises becomes one sentence that names the node."""
    try:
        return action()
    except NodeError:
        raise
    except Exception as error:
        text = " ".join(str(error).split()).rstrip(".")
        if not isinstance(error, EXPECTED_ERRORS) or not text:
            text = f"{type(error).__name__}: {text}".rstrip(": ")
        raise NodeError(f"{node} failed: {text}.") from error
