// Draws the charts of a page. Each has its specification beside it as JSON,
// which no browser runs; without this script the tables tell the same.
"use strict";
(async () => {
  const big = document.querySelector(".screen") !== null;
  const grow = (spec) => {
    if (!big) return spec;
    const axis = spec.config.axis;
    // Two rows of panels fit on a screen of 1,920 by 1,080 pixels.
    spec.height = Math.round(spec.height * (spec.usermeta ? 0.75 : 0.85));
    spec.config = {
      ...spec.config,
      axis: { ...axis, labelFontSize: 14, titleFontSize: 14 },
      legend: { labelFontSize: 14, titleFontSize: 14 },
    };
    return spec;
  };
  for (const holder of document.querySelectorAll("[data-chart]")) {
    const text = holder.querySelector("script[type='application/json']");
    const place = holder.querySelector(".drawn");
    const spec = grow(JSON.parse(text.textContent));
    try {
      await vegaEmbed(place, spec, {
        ast: true,
        actions: false,
        defaultStyle: false,
        renderer: "svg",
        tooltip: { disableDefaultStyle: true },
      });
      holder.dataset.chart = "drawn";
    } catch (error) {
      holder.dataset.chart = "failed";
      console.error(error);
    }
  }
})();
