// Shows on the node itself what a node reports in words, such as Score Restoration's figures.
import { app } from "../../scripts/app.js";

function resultWidget(node) {
  const known = node.widgets?.find((widget) => widget.name === "result");
  if (known) return known;
  const { widget } = app.widgets.STRING(node, "result", ["STRING", { multiline: true }], app);
  widget.element.readOnly = true;
  widget.serialize = false; // neither saved with the workflow
  widget.options.serialize = false; // nor sent with the prompt
  placeAbovePreview(node);
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
  return widget;
}

// A preview takes all the room below it, so the newest widget must not be the last.
function placeAbovePreview(node) {
  const preview = node.widgets.findIndex((widget) => widget.name.startsWith("$$"));
  if (preview >= 0) node.widgets.splice(preview, 0, node.widgets.pop());
}

app.registerExtension({
  name: "Undegrade.Results",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith("Undegrade")) return;
    const onExecuted = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (message) {
      onExecuted?.apply(this, arguments);
      const said = message?.text?.join("\n"); // empty: nothing to say, and nothing left of before
      const shown = this.widgets?.some((widget) => widget.name === "result");
      if (said || (said === "" && shown)) resultWidget(this).value = said;
    };
  },
});
