"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)"), paper = matchMedia("print");

  // Colours are names in the figures (@ink); the style sheet has their values for light, dark and print.
  function palette(light) {
    const probe = document.body.appendChild(document.createElement("i"));
    if (light) probe.className = "light";
    const style = getComputedStyle(probe), found = {};
    for (const name of ["ink", "muted", "other", "front", "paper", "line"])
      found["@" + name] = style.getPropertyValue("--" + name).trim();
    probe.remove();
    return found;
  }
  function painted(value, colours) {
    if (typeof value === "string") return colours[value] || value;
    if (Array.isArray(value)) return value.map((item) => painted(item, colours));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, k === "text" ? v : painted(v, colours)]));
    return value;
  }
  function layout(own, colours, width) {
    const font = { family: "system-ui, sans-serif", size: 13, color: colours["@ink"] };
    const axis = {
      gridcolor: colours["@line"], linecolor: colours["@muted"], tickcolor: colours["@line"], zeroline: false,
      automargin: true, tickfont: { color: colours["@muted"] },
    };
    const height = Math.round(Math.max(340, Math.min(460, width * 0.58)));
    return {
      ...own, font, height, width, hovermode: "closest", dragmode: width < 500 ? false : "zoom",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 56, r: 10, t: 12, b: 48 },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } },
      hoverlabel: { bgcolor: colours["@paper"], bordercolor: colours["@muted"], font, align: "left" },
      xaxis: { ...axis, ...own.xaxis }, yaxis: { ...axis, ...own.yaxis },
    };
  }
  const options = { displaylogo: false, displayModeBar: "hover", modeBarButtonsToRemove: ["select2d", "lasso2d"] };
  function draw() {
    const colours = palette(paper.matches || printing);
    for (const [name, figure] of Object.entries(figures)) {
      const place = document.getElementById("plot-" + name);
      if (!place) continue;
      const width = place.clientWidth || place.parentNode.clientWidth, own = painted(figure, colours);
      const laid = layout(own.layout, colours, printing || paper.matches ? last.get(name) || width : width);
      last.set(name, laid.width);
      Plotly.react(place, own.data, laid, options).then(() => {
        place.style.setProperty("--shape", laid.width + " / " + laid.height);
        for (const svg of place.querySelectorAll(".main-svg"))  // so that paper can scale them
          svg.setAttribute("viewBox", `0 0 ${laid.width} ${laid.height}`);
      });
    }
  }
  let printing = false, waiting = 0;
  const last = new Map();
  draw();
  dark.addEventListener("change", draw);
  paper.addEventListener("change", draw);
  addEventListener("beforeprint", () => { printing = true; draw(); });
  addEventListener("afterprint", () => { printing = false; draw(); });
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { if (!printing && !paper.matches) draw(); }, 150);
  });

  // The table of trials: sorted by a click on a column's head, filtered by words.
  const table = document.getElementById("all"), body = table.tBodies[0], rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells], shown = document.getElementById("shown");
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const number = (text) => (text === "-" || text === "" ? NaN : Number(text.replace("−", "-").replace(/[+,]/g, "")));
  const TEXT = new Set([1, 2, 10]);
  function sort(column) {
    const down = heads[column].getAttribute("aria-sort") === "ascending";
    heads.forEach((head, i) => {
      if (i === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    const sign = down ? -1 : 1, words = TEXT.has(column);
    const keyed = rows.map((row, i) => {
      const text = row.cells[column].textContent.replace("◆", "").trim();
      return { row, i, key: words ? text : number(text), empty: words ? text === "" : Number.isNaN(number(text)) };
    });
    keyed.sort((a, b) => a.empty - b.empty || (a.empty ? 0 : sign * (words ? compare(a.key, b.key) : a.key - b.key)) || a.i - b.i);
    body.append(...keyed.map((one) => one.row));
  }
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  function filter(words) {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    rows.forEach((row, i) => {
      row.hidden = !wanted.every((word) => texts[i].includes(word));
      count += !row.hidden;
    });
    shown.textContent = wanted.length ? `${count} of ${rows.length} trials` : `${rows.length} trials`;
  }
  heads.forEach((head, i) => head.firstElementChild.addEventListener("click", () => sort(i)));
  document.getElementById("filter").addEventListener("input", (e) => filter(e.target.value));
})();
