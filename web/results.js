// Shows on the node itself what a node reports in words, such as Score Restoration's figures.
import { app } from "../../scripts/app.js";
import { ComfyWidgets } from "../../scripts/widgets.js";

function resultWidget(node) {
  const known = node.widgets?.find((widget) => widget.name === "result");
  if (known) return known;
  const { widget } = ComfyWidgets.STRING(node, "result", ["STRING", { multiline: true }], app);
  widget.inputEl.readOnly = true;
  widget.serialize = false; // neither saved with the workflow
  widget.options.serialize = false; // nor sent with the prompt
  return widget;
}

app.registerExtension({
  name: "Undegrade.Results",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith("Undegrade")) return;
    const onExecuted = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (message) {
      onExecuted?.apply(this, arguments);
      if (message?.text) resultWidget(this).value = message.text.join("\n");
    };
  },
});
