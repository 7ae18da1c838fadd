// The plot of a metric: fetched, drawn by Bokeh, and updated as jobs arrive.
"use strict";

(() => {
  const place = document.getElementById("plot");
  const note = document.getElementById("plot-note");
  const legend = document.getElementById("plot-legend");
  const steps = document.getElementById("plot-steps");
  const wantsDark = window.matchMedia("(prefers-color-scheme: dark)");
  const wantsTouch = window.matchMedia("(pointer: coarse)").matches;
  const hidden = new Set();
  let plot = null;
  let sources = {};
  let whole = {};
  let labels = [];
  let newest = 0;
  let remembering = 0;
  const files = [...document.querySelectorAll("a[data-export]")].map((link) => [link, link.href]);

  const say = (text) => {
    if (note.textContent !== text) note.textContent = text;
  };

  const ask = async (changes) => {
    const address = new URL(place.dataset.address, window.location.href);
    address.searchParams.set("theme", wantsDark.matches ? "dark" : "light");
    for (const [key, value] of Object.entries(changes)) address.searchParams.set(key, value);
    const reply = await fetch(address, { headers: { Accept: "application/json" } });
    if (reply.status === 204) return null;
    const answer = await reply.json();
    if (!reply.ok) throw new Error(answer.message);
    return answer;
  };

  // The data of a document's sources, by their names.
  const dataOf = (node, found = {}) => {
    if (node === null || typeof node !== "object") return found;
    if (node.name === "ColumnDataSource") {
      found[node.attributes.name] = Object.fromEntries(node.attributes.data.entries);
      return found;
    }
    for (const part of Object.values(node)) dataOf(part, found);
    return found;
  };

  const shown = (columns) => {
    const kept = columns.line
      .map((_, index) => index)
      .filter((index) => !hidden.has(labels[columns.line[index]]));
    return Object.fromEntries(
      Object.entries(columns).map(([name, values]) => [name, kept.map((index) => values[index])]),
    );
  };

  const fill = () => {
    sources.points.data = shown(whole.points);
    sources.joints.data = shown(whole.joints);
    sources.limits.data = whole.limits;
    if (sources.steps) sources.steps.data = shown(whole.steps ?? { line: [], x: [], colour: [] });
  };

  const sampleOf = (line) => {
    const name = "http://www.w3.org/2000/svg";
    const sample = document.createElementNS(name, "svg");
    sample.setAttribute("viewBox", "0 0 36 12");
    sample.setAttribute("aria-hidden", "true");
    const dashes = { dashed: "6 4", dotted: "2 3", dotdash: "2 3 6 3" };
    if (line.dash) {
      const stroke = document.createElementNS(name, "line");
      const place = { x1: 0, y1: 6, x2: 36, y2: 6, stroke: line.colour, "stroke-width": 2 };
      for (const [key, value] of Object.entries(place)) stroke.setAttribute(key, value);
      if (dashes[line.dash]) stroke.setAttribute("stroke-dasharray", dashes[line.dash]);
      sample.append(stroke);
    }
    const dot = document.createElementNS(name, "circle");
    const centre = { cx: 18, cy: 6, r: 4, fill: line.colour };
    for (const [key, value] of Object.entries(centre)) dot.setAttribute(key, value);
    sample.append(dot);
    return sample;
  };

  // A button for each line, to hide it and show it again.
  const fillLegend = (lines) => {
    const focused = document.activeElement?.dataset?.line;
    legend.replaceChildren(
      ...lines.map((line) => {
        const button = document.createElement("button");
        button.type = "button";
        button.dataset.line = line.label;
        button.setAttribute("aria-pressed", String(!hidden.has(line.label)));
        button.append(sampleOf(line), line.label);
        button.addEventListener("click", () => {
          if (!hidden.delete(line.label)) hidden.add(line.label);
          button.setAttribute("aria-pressed", String(!hidden.has(line.label)));
          fill();
        });
        const entry = document.createElement("li");
        entry.append(button);
        return entry;
      }),
    );
    legend.hidden = lines.length < 2;
    if (focused !== undefined) {
      [...legend.querySelectorAll("button")].find((one) => one.dataset.line === focused)?.focus();
    }
  };

  // Where the level has changed: a line of text, and what changed in the code then.
  const fillSteps = (answer) => {
    steps.hidden = answer === undefined;
    if (answer === undefined) return;
    const head = document.createElement("p");
    head.textContent = answer.note;
    const list = document.createElement("ul");
    list.replaceChildren(
      ...answer.found.map((step) => {
        const entry = document.createElement("li");
        const job = document.createElement("a");
        job.href = `${place.dataset.root}/job/${step.job}`;
        job.textContent = step.text;
        entry.append(job);
        for (const { name, link } of step.packages) {
          const part = document.createElement(link === null ? "span" : "a");
          if (link !== null) part.href = link;
          part.textContent = name;
          entry.append(" ", part);
        }
        return entry;
      }),
    );
    steps.replaceChildren(head, ...(answer.found.length ? [list] : []));
  };

  const openJob = () => {
    const [index] = sources.points.selected.indices;
    if (index === undefined) return;
    const job = Number(sources.points.data.job[index]);
    // Somebody who comes back may click on the same point again.
    sources.points.selected.indices = [];
    if (Number.isSafeInteger(job)) window.location.assign(`${place.dataset.root}/job/${job}`);
  };

  // Left, right, bottom and top of what is zoomed in on, or null.
  const zoomOf = (address) => {
    const ends = (address.searchParams.get("zoom") ?? "").split(",").map(Number);
    return ends.length === 4 && ends.every(Number.isFinite) ? ends : null;
  };

  // The files have the values of the time that is shown.
  const narrowFiles = (zoom) => {
    const { x, time } = whole.points;
    const isTime = x.every((value, index) => value === time[index]);
    for (const [link, unzoomed] of files) {
      const address = new URL(unzoomed);
      if (zoom !== null && isTime) {
        const [left, right] = zoom.map((end) => new Date(end).toISOString());
        if (x.some((value) => value < zoom[0])) address.searchParams.set("since", left);
        if (x.some((value) => value > zoom[1])) address.searchParams.set("until", right);
      }
      link.href = address;
    }
  };

  // What is zoomed in on is in the URL, so that a link shows somebody else the same.
  const remember = () => {
    const { x_range: x, y_range: y } = plot.model;
    const address = new URL(window.location.href);
    address.searchParams.delete("zoom");
    if (x.have_updated_interactively || y.have_updated_interactively) {
      const ends = [x.start, x.end, y.start, y.end].map((end) => Number(end.toPrecision(13)));
      address.searchParams.set("zoom", ends.join(","));
    }
    window.history.replaceState(null, "", address);
    narrowFiles(zoomOf(address));
  };

  const rememberSoon = () => {
    window.clearTimeout(remembering);
    remembering = window.setTimeout(() => plot !== null && remember(), 200);
  };

  const zoomIn = () => {
    const zoom = zoomOf(new URL(window.location.href));
    if (zoom === null) return;
    const [left, right, bottom, top] = zoom;
    plot.update_range({
      xrs: new Map([[plot.model.x_range, { start: left, end: right }]]),
      yrs: new Map([[plot.model.y_range, { start: bottom, end: top }]]),
    });
    narrowFiles(zoom);
  };

  const remove = () => {
    if (plot !== null) {
      const index = Bokeh.documents.indexOf(plot.model.document);
      plot.remove();
      if (index >= 0) Bokeh.documents.splice(index, 1);
    }
    plot = null;
    place.replaceChildren();
  };

  const embed = async (item) => {
    const views = await Bokeh.embed.embed_item(item, place);
    plot = views.roots[0];
    const drawn = plot.model.document;
    sources = Object.fromEntries(
      ["points", "joints", "limits", "steps"].map((name) => [name, drawn.get_model_by_name(name)]),
    );
    // A finger that scrolls the page must not draw boxes.
    if (wantsTouch) plot.model.toolbar.active_drag = null;
    sources.points.selected.properties.indices.change.connect(openJob);
    if (hidden.size) fill();
    zoomIn();
    plot.model.on_event("rangesupdate", rememberSoon);
  };

  // An existing plot gets new data, so that its zoom stays.
  const show = async (answer) => {
    newest = answer.newest;
    labels = answer.lines.map((line) => line.label);
    whole = dataOf(answer.item.doc);
    const count = whole.points.x.length;
    if (count === 0) remove();
    else if (plot === null) await embed(answer.item);
    else fill();
    fillLegend(answer.lines);
    say(answer.note);
    fillSteps(answer.steps);
    place.dataset.points = String(count);
  };

  const follow = async () => {
    const answer = await ask({ newest });
    if (answer === null) return;
    await show(answer);
    await squashReplace();
  };

  const begin = async () => {
    try {
      const answer = await ask({});
      remove();
      await show(answer);
    } catch (error) {
      say(`The plot cannot be drawn: ${error.message}`);
    }
  };

  wantsDark.addEventListener("change", begin);
  begin().then(() => squashLive(follow));
})();
