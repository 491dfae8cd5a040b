"use strict";
// Draws every figure in the colours of the page, and again when those change.
(() => {
  const { figures, moments } = JSON.parse(document.getElementById("figures").textContent);
  const drawn = new Set();
  const width = (box) => box.clientWidth;  // 0 where it is folded away

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
    const data = figure.data.map((trace) => ({ ...trace, x: moments[trace.x] }));
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
    drawn.add(box);
    Plotly.react(box, paint(data, style), layout, config);
    box.classList.add("drawn");
  };

  // One after the other, from the top, so that the page can be read meanwhile; what is folded away waits for its turn.
  const boxes = [...document.querySelectorAll(".plot")];
  const drawNext = (waiting) => {
    const box = waiting.find((one) => width(one) && !drawn.has(one));
    if (!box) return;
    draw(box);
    setTimeout(drawNext, 0, waiting);
  };
  drawNext(boxes);
  addEventListener("toggle", (event) => drawNext([...event.target.querySelectorAll(".plot")]), true);

  const again = () => [...drawn].forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  matchMedia("print").addEventListener("change", again);
  addEventListener("beforeprint", () => boxes.filter((box) => width(box) && !drawn.has(box)).forEach(draw));
})();
