"use strict";
// Draws each figure when it comes into view, in the colours of the page, and again when those change.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const drawn = new Map();
  const width = (box) => box.clientWidth;

  const paint = (value, style) => {
    if (Array.isArray(value)) return value.map((one) => paint(one, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => {
      const named = /color$/.test(key) && typeof inner === "string" && inner.startsWith("--");
      return [key, named ? style.getPropertyValue(inner).trim() : paint(inner, style)];
    }));
  };

  const axis = (given, style) => ({
    gridcolor: style.getPropertyValue("--line").trim(), zeroline: false, automargin: true, fixedrange: false, ...given,
  });

  const draw = (box) => {
    const figure = figures[box.dataset.figure];
    const style = getComputedStyle(document.documentElement);
    const given = paint(figure.layout, style);
    const layout = {
      ...given,
      height: given.height || (width(box) < 480 ? 300 : 280),
      margin: { l: 52, r: 14, t: 10, b: 40 },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 11.5, color: style.getPropertyValue("--ink").trim() },
      hoverlabel: { namelength: -1 },
      hovermode: given.hovermode || "x unified",
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: 11 }, traceorder: "normal" },
      showlegend: figure.data.length > 1 && figure.data.some((trace) => trace.showlegend !== false),
      xaxis: axis(given.xaxis, style), yaxis: axis(given.yaxis, style),
    };
    const config = { displayModeBar: false, responsive: true };
    drawn.set(box, width(box));
    Plotly.react(box, paint(figure.data, style), layout, config);
    box.classList.add("drawn");
  };

  const boxes = [...document.querySelectorAll(".plot")];
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting && !drawn.has(entry.target)) draw(entry.target);
  }, { rootMargin: "400px" });
  boxes.forEach((box) => watcher.observe(box));

  const again = () => [...drawn.keys()].forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  matchMedia("print").addEventListener("change", again);
  addEventListener("beforeprint", () => boxes.filter((box) => width(box) && !drawn.has(box)).forEach(draw));
})();
