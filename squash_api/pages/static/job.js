// The blobs of a job: drawn when they are opened, and again when another array is selected.
"use strict";

(() => {
  const note = document.getElementById("blob-note");
  const wantsDark = window.matchMedia("(prefers-color-scheme: dark)");
  const wantsTouch = window.matchMedia("(pointer: coarse)").matches;
  const plots = new Map();

  const draw = async (blob) => {
    const place = blob.querySelector(".blob-plot");
    const chosen = new FormData(blob.querySelector("form"));
    const address = new URL(place.dataset.address, window.location.href);
    for (const key of ["blob", "y", "x"]) address.searchParams.set(key, chosen.get(key));
    address.searchParams.set("theme", wantsDark.matches ? "dark" : "light");
    // The last request counts, even if an earlier one is answered later.
    place.dataset.asked = address.href;
    const reply = await fetch(address, { headers: { Accept: "application/json" } });
    const answer = await reply.json();
    if (place.dataset.asked !== address.href) return;
    plots.get(blob)?.remove();
    plots.delete(blob);
    place.replaceChildren();
    if (!reply.ok) throw new Error(answer.message);
    const views = await Bokeh.embed.embed_item(answer.item, place);
    plots.set(blob, views.roots[0]);
    // A finger that scrolls the page must not draw boxes.
    if (wantsTouch) views.roots[0].model.toolbar.active_drag = null;
    note.textContent = `${chosen.get("y")}: ${answer.note}`;
    place.dataset.drawn = address.search;
  };

  const begin = (blob) =>
    draw(blob).catch((error) => {
      note.textContent = `The plot cannot be drawn: ${error.message}`;
    });

  // The URL says what is shown, so that it can be shared.
  const remember = (blob) => {
    const address = new URL(window.location.href);
    for (const [key, value] of new FormData(blob.querySelector("form"))) {
      address.searchParams.set(key, value);
    }
    address.hash = blob.id;
    window.history.replaceState(null, "", address);
  };

  // Arrays of different lengths cannot be plotted over each other.
  const disable = (form) => {
    const possible = JSON.parse(form.dataset.partners)[form.elements.y.selectedIndex];
    for (const option of form.elements.x.options) {
      option.disabled = option.value !== "" && !possible.includes(option.value);
      if (option.disabled && option.selected) form.elements.x.value = "";
    }
  };

  for (const blob of document.querySelectorAll("details.blob")) {
    const form = blob.querySelector("form");
    if (form === null) continue;
    form.querySelector("button").hidden = true;
    disable(form);
    form.addEventListener("change", () => {
      disable(form);
      remember(blob);
      begin(blob);
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    blob.addEventListener("toggle", () => {
      if (blob.open && !plots.has(blob)) begin(blob);
    });
    if (blob.open) begin(blob);
  }

  // A link to a blob opens it.
  const open = () => {
    const blob = document.getElementById(window.location.hash.slice(1));
    if (blob !== null && blob.matches("details.blob")) blob.open = true;
  };
  open();
  window.addEventListener("hashchange", open);
  wantsDark.addEventListener("change", () => {
    for (const blob of plots.keys()) if (blob.open) begin(blob);
  });
})();
