"""The words that people type find the right node or blueprint, by the frontend's own search.

Frontends before 1.40 know the names alone, and no other words.
"""

import pytest
from browser.test_blueprints import BLUEPRINTS

FOUND = """([words, blueprints]) => {
    const page = [...document.querySelectorAll("*")].find((element) => element.__vue_app__);
    const stores = page.__vue_app__.config.globalProperties.$pinia._s;
    const search = stores.get("nodeDef").nodeSearchService;
    const ours = (node) => node.name.startsWith("Undegrade")
        || (node.python_module === "blueprint" && blueprints.includes(node.display_name));
    const names = (word) => search.searchNode(word, [], { limit: 64 }).filter(ours)
        .map((node) => node.name.startsWith("Undegrade") ? node.name.slice(9) : node.display_name);
    return Object.fromEntries(words.map((word) => [word, names(word)]));
}"""
FIRST, KNOWS_WORDS = 3, 40
SHARPEN = {"EstimateBlurKernel", "KernelBlur", "Sharpen Blurred Photo"}
DENOISE = {"Denoise", "Denoise Photo"}
ENLARGE = {"InversionSampler", "Downscale", "Enlarge Photo", "Enlarge Web Picture",
           "Enlarge Small Bad Picture"}  # fmt: skip
OLD = {"FindScratches", "Restore Old Photo"}
REMOVE = {"FillFromSurroundings", "InpaintingMask", "Remove Object"}
JPEG = {"JPEG", "EstimateJPEGQuality", "Repair JPEG"}
WORDS = {
    "sharpen": SHARPEN, "deblur": SHARPEN, "unblur": SHARPEN, "锐化": SHARPEN, "去模糊": SHARPEN,
    "denoise": DENOISE, "grain": DENOISE | {"MatchGrain"}, "降噪": DENOISE, "去噪": DENOISE,
    "颗粒": DENOISE | {"MatchGrain"},
    "upscale": ENLARGE, "enlarge": ENLARGE, "enhance": ENLARGE, "放大": ENLARGE, "增强": ENLARGE,
    "old photo": OLD, "scratch": OLD, "老照片": OLD, "划痕": OLD,
    "remove object": REMOVE, "erase": REMOVE, "heal": REMOVE, "去除物体": REMOVE, "擦除": REMOVE,
    "artifacts": JPEG, "压缩": JPEG,
}  # fmt: skip


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_word_finds_what_does_it(open_canvas, language):
    canvas = open_canvas(**{"Comfy.Locale": language})
    if int(canvas.version.split(".")[1]) < KNOWS_WORDS:
        pytest.skip(f"frontend {canvas.version} searches names alone")
    found = canvas.run(FOUND, [list(WORDS), BLUEPRINTS])
    amiss = {word: found[word][:FIRST] for word, right in WORDS.items()
             if not right & set(found[word][:FIRST])}
    assert amiss == {}
