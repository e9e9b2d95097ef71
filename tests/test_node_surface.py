"""What ComfyUI needs of every node, and what shared workflows rely on."""

import inspect
import json
from pathlib import Path

import pytest
from node_calls import WIDGETS, inputs_of

from undegrade import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from undegrade.pipelines.subdaps.options import SamplerOptions

SNAPSHOT = Path(__file__).parent / "node_signatures.json"
STOCK = {"IMAGE", "MASK", "LATENT", "MODEL", "VAE", "GUIDER", "NOISE", "SIGMAS", "SAMPLER"}
STOCK |= {"INT", "FLOAT", "STRING", "BOOLEAN"}
OURS = {
    "DIFFUSION_PRIOR",
    "DEGRADATION_OPERATOR",
    "MEASUREMENT",
    "MEASUREMENT_UPDATE",
    "SWITCH_RULE",
    "RESTORATION_TRAJECTORY",
    "TILE_GRID",
    "NOISE_PREDICTOR",
    "STEP_POLICY",
    "FEATURE_INJECTION",
    "REGION_REGRESSOR",
    "STRUCT_INJECTION",
}
every_node = pytest.mark.parametrize("node_id", list(NODE_CLASS_MAPPINGS))


@every_node
def test_node_is_complete(node_id):
    cls = NODE_CLASS_MAPPINGS[node_id]
    assert node_id.startswith("Undegrade") and cls.CATEGORY.startswith("Undegrade/")
    assert NODE_DISPLAY_NAME_MAPPINGS[node_id].strip()
    assert len(cls.DESCRIPTION) > 20 and cls.SEARCH_ALIASES
    assert len(cls.RETURN_TYPES) == len(cls.RETURN_NAMES) == len(cls.OUTPUT_TOOLTIPS)
    assert set(cls.RETURN_TYPES) <= STOCK | OURS
    assert callable(getattr(cls, cls.FUNCTION))


@every_node
def test_every_input_has_a_tooltip_and_a_legal_default(node_id):
    for name, (kind, settings) in inputs_of(node_id).items():
        assert len(settings["tooltip"]) > 10, name
        if isinstance(kind, list):
            assert settings.get("default", kind[0]) in kind
        elif kind in ("INT", "FLOAT"):
            assert settings["min"] <= settings["default"] <= settings["max"], name
        elif kind not in WIDGETS:
            assert kind in STOCK | OURS, name


@every_node
def test_the_function_takes_exactly_the_declared_inputs(node_id):
    cls = NODE_CLASS_MAPPINGS[node_id]
    parameters = inspect.signature(getattr(cls, cls.FUNCTION)).parameters
    named = {n for n, p in parameters.items() if n != "self" and p.kind is not p.VAR_KEYWORD}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    declared = {*inputs_of(node_id), *cls.INPUT_TYPES().get("hidden", {})}
    assert named <= declared
    assert open_ended or named == declared


@every_node
def test_what_was_computed_stays_so_where_a_node_gets_another_id(node_id):
    """ComfyUI makes the id part of what it keeps outputs by, where a node asks for it: wrapping
    nodes into a subgraph would run them again."""
    assert "UNIQUE_ID" not in NODE_CLASS_MAPPINGS[node_id].INPUT_TYPES().get("hidden", {}).values()


@every_node
def test_what_a_node_shows_is_shown_again_when_it_is_taken_from_the_cache(node_id):
    """ComfyUI sends it again for output nodes, and for those that say so."""
    cls = NODE_CLASS_MAPPINGS[node_id]
    told_again = [getattr(cls, flag, False) for flag in ("OUTPUT_NODE", "HAS_INTERMEDIATE_OUTPUT")]
    source = inspect.getsource(inspect.unwrap(getattr(cls, cls.FUNCTION)))
    assert ('"ui"' in source) == any(told_again)


def signatures() -> dict:
    """Ids, sockets and widgets with their kinds: the promises to shared workflows."""

    def kinds(section: dict) -> dict:
        return {n: "COMBO" if isinstance(k, list) else k for n, (k, _) in section.items()}

    return {
        node_id: {
            "inputs": {k: kinds(v) for k, v in cls.INPUT_TYPES().items() if k != "hidden"},
            "outputs": dict(zip(cls.RETURN_NAMES, cls.RETURN_TYPES, strict=True)),
        }
        for node_id, cls in sorted(NODE_CLASS_MAPPINGS.items())
    }


def test_nothing_that_workflows_rely_on_has_been_renamed():
    """A new node or widget is added to the snapshot; a released one is never changed there."""
    assert signatures() == json.loads(SNAPSHOT.read_text())


def test_options_have_one_source():
    widgets = inputs_of("UndegradePosteriorSampler")
    assert widgets["steps"][1]["default"] == SamplerOptions().steps
