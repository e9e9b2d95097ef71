// A slider between the two pictures of Compare Images, where the frontend draws none: before core
// had that node, and wherever nodes are not drawn as HTML. Only in graphs with nodes of this pack.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const FILL = "position: absolute; inset: 0; width: 100%; height: 100%;";

function address(image) {
  return api.apiURL(`/view?${new URLSearchParams(image)}&rand=${Math.random()}`);
}

function picture(box, alt) {
  const image = document.createElement("img");
  image.alt = alt;
  image.draggable = false;
  image.style.cssText = `${FILL} object-fit: contain;`;
  box.append(image);
  return image;
}

// Moving over the pictures moves the line between them; a click shows the next of several.
function slider(node) {
  const box = document.createElement("div");
  box.className = "undegrade-compare";
  box.style.cssText = "position: relative; overflow: hidden; cursor: ew-resize;";
  const after = picture(box, "after");
  const before = picture(box, "before");
  const line = document.createElement("div");
  line.style.cssText = "position: absolute; top: 0; bottom: 0; width: 2px; background: #fff9;";
  box.append(line);
  const part = (percent) => {
    before.style.clipPath = `inset(0 ${100 - percent}% 0 0)`;
    line.style.left = `${percent}%`;
  };
  let pairs = { a_images: [], b_images: [] };
  let index = 0;
  const show = () => {
    for (const [image, files] of [[before, pairs.a_images], [after, pairs.b_images]]) {
      image.hidden = !files.length;
      if (files.length) image.src = address(files[index % files.length]);
    }
  };
  box.addEventListener("pointermove", (event) => {
    const { left, width } = box.getBoundingClientRect();
    part((100 * (event.clientX - left)) / width);
  });
  box.addEventListener("click", () => {
    index += 1;
    show();
  });
  const options = { serialize: false, hideOnZoom: false, getMinHeight: () => 150 };
  const widget = node.addDOMWidget("slider", "undegrade_compare", box, options);
  widget.serialize = false;
  widget.compare = ({ a_images, b_images }) => {
    pairs = { a_images: a_images ?? [], b_images: b_images ?? [] };
    index = 0;
    part(50);
    show();
  };
  return widget;
}

function needsSlider(node, core) {
  if (core && LiteGraph.vueNodesMode) return false;
  return node.graph.nodes.some((other) => other.type.startsWith("Undegrade"));
}

app.registerExtension({
  name: "Undegrade.Compare",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== "ImageCompare") return;
    const onExecuted = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (message) {
      onExecuted?.apply(this, arguments);
      const core = this.widgets?.find((widget) => widget.type === "imagecompare");
      if (!needsSlider(this, core)) return;
      const own = this.widgets?.find((widget) => widget.name === "slider") ?? slider(this);
      if (core) core.hidden = true; // it says that it needs HTML nodes
      own.compare(message);
    };
  },
});
