"use strict";

/* On every page: the key `/` goes to the search box, times are shown in UTC or in local time, and what
   takes room on a phone is folded there. */

(() => {
  const KEY = "squash-zone";
  const find = document.getElementById("find");
  const button = document.getElementById("zone");

  if (matchMedia("(max-width: 50rem)").matches) {
    for (const details of document.querySelectorAll("details[data-fold]")) {
      details.open = false;
    }
  }

  document.addEventListener("keydown", (event) => {
    const field = event.target instanceof Element
      ? event.target.closest("input, select, textarea, [contenteditable]") : null;
    if (event.key === "/" && field === null && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      find.focus();
      find.select();
    }
  });

  const remembered = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  };
  const remember = (zone) => {
    try {
      localStorage.setItem(KEY, zone);
    } catch {
      // Without storage the choice lasts as long as the page.
    }
  };
  let isLocal = remembered() === "local";

  // A name such as Europe/Berlin holds in summer and in winter.
  const zoneName = () => new Intl.DateTimeFormat().resolvedOptions().timeZone || "local time";
  const two = (number) => String(number).padStart(2, "0");
  const localText = (moment, length) => {
    const date = `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())}`;
    const text = `${date} ${two(moment.getHours())}:${two(moment.getMinutes())}`;
    return length > text.length ? `${text}:${two(moment.getSeconds())}` : text;
  };

  /* Texts are kept as they came, in UTC. */
  const show = (node, text) => {
    if (node.squashUtc === undefined) {
      node.squashUtc = node.textContent;
    }
    const wanted = isLocal ? text(node.squashUtc) : node.squashUtc;
    if (node.textContent !== wanted) {
      node.textContent = wanted;
    }
  };
  const named = (text) => text.replace(/\bUTC\b/, zoneName());

  const convert = (root) => {
    for (const element of root.querySelectorAll("time[datetime]")) {
      const moment = new Date(element.dateTime);
      if (!Number.isNaN(moment.getTime())) {
        show(element, (utc) => localText(moment, utc.length));
        const next = element.nextSibling;
        if (next !== null && next.nodeType === Node.TEXT_NODE && /^\s*UTC\b/.test(next.squashUtc ?? next.textContent)) {
          show(next, named);
        }
      }
    }
    for (const element of root.querySelectorAll("[data-zone]")) {
      show(element, named);
    }
    for (const head of root.querySelectorAll("th")) {
      const text = head.firstChild;
      if (text !== null && text.nodeType === Node.TEXT_NODE && /\(UTC\)/.test(text.squashUtc ?? text.textContent)) {
        show(text, named);
      }
    }
    button.textContent = isLocal ? "show UTC" : "show local";
  };

  button.hidden = false;
  button.addEventListener("click", () => {
    isLocal = !isLocal;
    remember(isLocal ? "local" : "utc");
    convert(document);
  });
  convert(document);
  new MutationObserver((changes) => {
    if (isLocal && changes.some((change) => [...change.addedNodes].some((node) => node.nodeType === Node.ELEMENT_NODE))) {
      convert(document);
    }
  }).observe(document.body, { childList: true, subtree: true });
})();
