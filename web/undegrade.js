// Colours of the pack's own sockets and links.
import { app } from "../../scripts/app.js";

const COLOURS = {
  DIFFUSION_PRIOR: "#C27BA0",
  DEGRADATION_OPERATOR: "#C58B5C",
  MEASUREMENT: "#5BA3A0",
  MEASUREMENT_UPDATE: "#93A854",
  SWITCH_RULE: "#A89B80",
  RESTORATION_TRAJECTORY: "#7A88C9",
  TILE_GRID: "#6E9BC4",
  NOISE_PREDICTOR: "#B56F6F",
  STEP_POLICY: "#8FBF8A",
  FEATURE_INJECTION: "#D0A94E",
  REGION_REGRESSOR: "#7FB7A6",
  STRUCT_INJECTION: "#C98A6B",
};

// A theme empties the colours of all types it does not know, when it is loaded and when it changes.
// Ours then show again; a theme that names one of these types has its way.
function colour(table) {
  for (const [type, own] of Object.entries(COLOURS)) {
    let theme = table[type];
    Object.defineProperty(table, type, {
      get: () => theme || own,
      set: (value) => (theme = value),
      configurable: true,
      enumerable: true,
    });
  }
}

// Where nodes are drawn as HTML, sockets take the same colours from CSS.
function colourPage() {
  const style = document.createElement("style");
  const rules = Object.entries(COLOURS).map(([type, own]) => `--color-datatype-${type}: ${own};`);
  style.textContent = `:root { ${rules.join(" ")} }`;
  document.head.append(style);
}

app.registerExtension({
  name: "Undegrade.SocketColours",
  setup() {
    colourPage();
    colour(LGraphCanvas.link_type_colors);
    colour(app.canvas.default_connection_color_byType);
  },
});
