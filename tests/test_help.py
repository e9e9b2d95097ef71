"""The help pages say what the nodes do: each input, output and default as the code has it."""

import re
from pathlib import Path

import pytest
from node_calls import WIDGETS, inputs_of
from PIL import Image
from test_switch import OFFICIAL_THRESHOLDS

from undegrade import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from undegrade.models.registry import ARCHITECTURES
from undegrade.pipelines.subdaps.options import SamplerOptions

WEB = Path(__file__).resolve().parent.parent / "web"
DOCS = WEB / "docs"
INPUTS = ["Input", "Default", "Allowed", "Meaning"]
OUTPUTS = ["Output", "Type", "Meaning"]
TITLES = set(NODE_DISPLAY_NAME_MAPPINGS.values())
STOCK = {"IMAGE", "MASK", "LATENT", "MODEL", "VAE", "GUIDER", "NOISE", "SIGMAS", "SAMPLER"}
STOCK |= WIDGETS
REPOSITORIES = {
    "https://github.com/DPS2022/diffusion-posterior-sampling",
    "https://github.com/StarNextDay/SubDAPS",
    "https://github.com/openai/guided-diffusion",
    "https://huggingface.co/stabilityai/sd-turbo",
    "https://huggingface.co/stabilityai/stable-diffusion-2-1-base",
    "https://github.com/VinAIResearch/blur-kernel-space-exploring",
    "https://github.com/zsyOAOA/InvSR",
    "https://github.com/IceClear/StableSR",
}
every_node = pytest.mark.parametrize("node_id", list(NODE_CLASS_MAPPINGS))


def read(node_id: str) -> str:
    return (DOCS / f"{node_id}.md").read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)


def tables(text: str, columns: list[str]) -> list[list[list[str]]]:
    """The rows of every table with these columns, cell by cell."""
    found = []
    for block in re.findall(r"(?:^\|.*\|$\n?)+", text, re.M):
        head, rule, *rows = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()
        ]
        assert {len(row) for row in [head, rule, *rows]} == {len(head)}, f"ragged table {head}"
        assert set("".join(rule)) == {"-"}
        if head == columns:
            found.append(rows)
    return found


def only_table(text: str, columns: list[str]) -> dict[str, list[str]]:
    """First cell, without its code marks -> the other cells."""
    (rows,) = tables(text, columns)
    names = [re.fullmatch(r"`(.+)`", first).group(1) for first, *_ in rows]  # type: ignore[union-attr]
    assert len(set(names)) == len(names), "a row twice"
    return {name: rest for name, (_, *rest) in zip(names, rows, strict=True)}


def number(text: str) -> float:
    power = re.fullmatch(r"2\^(\d+) - 1", text)
    return 2 ** int(power.group(1)) - 1 if power else float(text)


def value(text: str):
    """What a Default cell says."""
    if text in ("on", "off", "empty"):
        return {"on": True, "off": False, "empty": ""}[text]
    code = re.fullmatch(r"`(.*)`", text)
    return code.group(1) if code else number(text)


def interval(text: str) -> list[float]:
    """The two ends of an Allowed cell such as "0.1 to 50 pixels"."""
    match = re.match(r"(\S+) to (2\^64 - 1|\S+)", text)
    return [number(end) for end in match.groups()] if match else []


def mistake(default: str, allowed: str, kind, settings: dict, required: bool) -> str:
    """What is wrong with these two cells of an input's row; "" where nothing is."""
    if isinstance(kind, list):
        if "default" not in settings:  # the user's files, which differ from one machine to the next
            places = ("a file in", "a folder in")
            return "" if allowed.startswith(places) else "say where its files lie"
        if re.findall(r"`([^`]*)`", allowed) != kind:
            return f"its choices are {kind}"
    elif kind not in WIDGETS:
        if (default, allowed) == ("required" if required else "optional", f"`{kind}`"):
            return ""
        return f"it is a {'required' if required else 'optional'} `{kind}`"
    elif kind in ("INT", "FLOAT"):
        if interval(allowed) != [settings["min"], settings["max"]]:
            return f"it goes from {settings['min']} to {settings['max']}"
    elif allowed.replace("`", "") != {"BOOLEAN": "on, off", "STRING": "text"}[kind]:
        return f"it is a {kind}"
    if value(default) != settings["default"]:
        return f"its default is {settings['default']!r}, the page says {default}"
    return ""


def mistakes(node_id: str, text: str) -> list[str]:
    """What the page says otherwise than the code, one sentence each."""
    cls, inputs = NODE_CLASS_MAPPINGS[node_id], inputs_of(node_id)
    required = cls.INPUT_TYPES().get("required", {})
    rows, outputs = only_table(text, INPUTS), only_table(text, OUTPUTS)
    found = []
    if list(rows) != list(inputs):
        found.append(f"inputs are {list(inputs)}, the page has {list(rows)}")
    for name in rows.keys() & inputs.keys():
        (default, allowed, meaning), (kind, settings) = rows[name], inputs[name]
        wrong = mistake(default, allowed, kind, settings, name in required)
        if not wrong and bool(settings.get("advanced")) != meaning.startswith("Advanced. "):
            wrong = "its meaning opens with 'Advanced.' where the widget is advanced"
        if wrong or len(meaning) < 15:
            found.append(f"row {name}: {wrong or 'explain it'}")
    said = {name: kind.strip("`") for name, (kind, _) in outputs.items()}
    if list(said.items()) != list(zip(cls.RETURN_NAMES, cls.RETURN_TYPES, strict=True)):
        found.append(f"outputs are {cls.RETURN_NAMES} of {cls.RETURN_TYPES}, the page has {said}")
    return [f"web/docs/{node_id}.md: {sentence}" for sentence in found]


def test_every_node_has_a_page_and_a_picture_and_no_more_is_there():
    found = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*") if path.is_file()}
    assert found == {f"{name}.{kind}" for name in NODE_CLASS_MAPPINGS for kind in ("md", "webp")}


@every_node
def test_page_shows_its_picture_above_the_inputs(node_id):
    """The frontend asks for it beside the page; it is drawn by benchmarks/help_pictures.py."""
    text = read(node_id)
    ((alt, file),) = re.findall(r"^!\[(.+)\]\((.+)\)$", text, re.M)
    assert file == f"{node_id}.webp" and len(alt) > 20 and alt.endswith(".")
    assert text.index(f"({file})\n\n## Inputs") > text.index("```")
    with Image.open(DOCS / file) as picture:
        picture.load()
        assert picture.format == "WEBP" and 380 <= picture.width <= 720
        assert len(picture.getcolors(2**20) or []) > 20, "an empty picture"


def test_pictures_are_small():
    sizes = [path.stat().st_size for path in DOCS.glob("*.webp")]
    assert max(sizes) <= 40_000 and sum(sizes) <= 1_500_000


@every_node
def test_page_says_what_the_code_does(node_id):
    assert mistakes(node_id, read(node_id)) == []


@pytest.mark.parametrize(
    ("node_id", "before", "after", "said"),
    [
        ("UndegradePosteriorSampler", "`steps` | ", "`steps` | 1", "row steps: its default is"),
        ("UndegradePosteriorSampler", "1 to 64 ", "1 to 65 ", "row samples: it goes from 1 to 64"),
        ("UndegradePosteriorSampler", "`samples` | 1 |", "`b` | 1 |", "the page has"),
        ("UndegradePosteriorSampler", "| optional", "| required", "row update: it is a optional"),
        ("UndegradePosteriorSampler", "`trajectory` | `REST", "`trajectory` | `B", "outputs are"),
        ("UndegradeCGMeasurementUpdate", "| off |", "| on |", "row sample: its default is False"),
        ("UndegradeCGMeasurementUpdate", "Advanced. ", "", "row tolerance: its meaning opens"),
        ("UndegradeDownscale", "`area`, ", "", "row kernel: its choices are"),
        ("UndegradeDownscale", "`bicubic` | ", "`area` | ", "row kernel: its default is 'bicubic'"),
    ],
)
def test_a_wrong_cell_is_named(node_id, before, after, said):
    text = read(node_id)
    assert before in text
    assert any(said in sentence for sentence in mistakes(node_id, text.replace(before, after, 1)))


@every_node
def test_page_has_its_parts(node_id):
    text = read(node_id)
    title = NODE_DISPLAY_NAME_MAPPINGS[node_id]
    assert text.startswith(f"# {title}\n\n")
    headings = re.findall(r"^## (.+)$", text, re.M)
    parts = [h for h in headings if h in ("Inputs", "Outputs", "Limits", "See also", "Source")]
    assert parts == ["Inputs", "Outputs", "Limits", "See also", "Source"]
    opening = text.split("## Inputs")[0]
    assert opening.count("```") == 2, "one formula in a code block"
    first = re.sub(r"\(.*?\)", "", opening.split("\n\n")[1])
    assert len(re.findall(r"[.?](?=\s|$)", first)) == 2, "two sentences: what it does, and when"
    assert "- " in text.split("## Limits")[1].split("##")[0]
    if any("file" in name for name in inputs_of(node_id)):
        assert "Weights and licence" in headings


@every_node
def test_links_lead_somewhere(node_id):
    """ComfyUI resolves an image against the page's folder, but a link against its own address."""
    text = without_code(read(node_id))
    for label, target in re.findall(r"(?<!!)\[([^\]]*)\]\(([^)]*)\)", text):
        paper = re.fullmatch(r"https://arxiv\.org/abs/(\d{4}\.\d{5})", target)
        assert paper or target in REPOSITORIES, f"{target} is not a known address"
        assert not paper or label == f"arXiv {paper.group(1)}"
    for _, target in re.findall(r"!\[([^\]]*)\]\(([^)]*)\)", text):
        assert (DOCS / target).is_file(), target
    named = re.findall(r"\*\*(.+?)\*\*", text, re.S)
    related = re.findall(r"\*\*(.+?)\*\*", text.split("## See also")[1].split("##")[0])
    assert related and set(named) <= TITLES - {NODE_DISPLAY_NAME_MAPPINGS[node_id]}


@every_node
def test_page_needs_no_more_than_markdown(node_id):
    text = read(node_id)
    assert not re.search(r"[$<>~]", without_code(text)), "no mathematics in dollars, no HTML"
    assert text.endswith("\n") and not text.endswith("\n\n") and "\t" not in text
    assert all(len(line) <= 100 for line in text.splitlines() if line[:1] not in ("|", "!"))
    code = "".join(re.findall(r"```\n(.*?)```", text, re.S))
    assert all(len(line) <= 54 for line in code.splitlines()), "the side panel is narrow"


@pytest.mark.parametrize("node_id", ["UndegradeDeterministicSwitch", "UndegradePosteriorSampler"])
def test_thresholds_are_the_official_ones(node_id):
    (rows,) = tables(read(node_id), ["Task", "`threshold`"])
    assert {task: float(threshold) for task, threshold in rows} == OFFICIAL_THRESHOLDS


def test_presets_can_be_set_and_the_first_is_the_default():
    columns = ["Preset", "Multi-Resolution Prior", "Set here", "Connect"]
    (rows,) = tables(read("UndegradePosteriorSampler"), columns)
    for name, several, settings, connect in rows:
        assert several in ("yes", "no") and connect
        numbers = {key: number(n) for key, n in re.findall(r"`(\w+)` ([\d.e-]+)", settings)}
        off = re.findall(r"`(\w+)` off", settings)
        said = [f"`{k}` {v:g}" for k, v in numbers.items()] + [f"`{k}` off" for k in off]
        assert numbers and settings == ", ".join(said), name
        made = SamplerOptions(**numbers, **dict.fromkeys(off, False))  # type: ignore[arg-type]
        assert made.complementary == (name != "paper's SubDAPS++, for the published weights")
        assert (made == SamplerOptions()) == (name == rows[0][0]), name
        assert made.renoise == 1 or name in (rows[0][0], "plug-and-play"), "the papers' noise"


def test_every_layout_that_loads_is_named():
    (rows,) = tables(read("UndegradeLoadPixelPrior"), ["Layout", "Noise levels", "Files"])
    assert [row[0] for row in rows] == [architecture.name for architecture in ARCHITECTURES]


def test_every_socket_of_ours_has_a_colour():
    script = (WEB / "undegrade.js").read_text(encoding="utf-8")
    colours = dict(re.findall(r'^  ([A-Z_]+): "(#[0-9A-F]{6})",$', script, re.M))
    used = {kind for cls in NODE_CLASS_MAPPINGS.values() for kind in cls.RETURN_TYPES}
    used |= {k for i in NODE_CLASS_MAPPINGS for k, _ in inputs_of(i).values() if isinstance(k, str)}
    assert colours.keys() == used - STOCK
    assert len(set(colours.values())) == len(colours)
