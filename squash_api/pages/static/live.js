"use strict";

/* Live updates, for every page.

   squashLive(onJob) calls onJob({job, metrics}) when a job arrives, and waits for what it returns. If
   several jobs arrive in the meantime, it is then called once, for the newest. A page in the background
   does not listen; it catches up when it is shown again.

   squashReplace() fetches the page again, and replaces every element that has the attribute data-live
   and an id. What was open stays open, and the focus stays where it was, if the elements have ids.

   squashNote(text) shows a text in the element with the attribute data-live-note, which should have
   role="status", at most every few seconds. */

(() => {
  const events = new URL("../events", document.currentScript.src);
  const NOTE_MS = 5000;
  const RETRY_MS = 30000;
  let noted = -NOTE_MS;

  window.squashLive = (onJob) => {
    let source = null;
    let last = null;
    let waiting = null;
    let isBusy = false;

    const tell = async () => {
      if (isBusy) {
        return;
      }
      isBusy = true;
      while (waiting !== null) {
        const job = waiting;
        waiting = null;
        const started = performance.now();
        try {
          await onJob(job);
        } catch {
          // The service may be unavailable for a moment; try again with the next job.
        }
        // Fetch a page that takes long to make less often.
        const took = performance.now() - started;
        await new Promise((resolve) => setTimeout(resolve, Math.min(250 + 2 * took, 5000)));
      }
      isBusy = false;
    };

    const open = () => {
      if (source !== null || document.hidden) {
        return;
      }
      const address = new URL(events);
      if (last === null) {
        // What came since the page was asked for may be missing in it.
        address.searchParams.set("since_s", (performance.now() / 1000).toFixed(1));
      } else {
        address.searchParams.set("after", String(last));
      }
      source = new EventSource(address);
      source.addEventListener("job", (event) => {
        const job = JSON.parse(event.data);
        last = job.job;
        waiting = job;
        tell();
      });
      source.addEventListener("error", () => {
        if (source !== null && source.readyState === EventSource.CLOSED) {
          close();
          setTimeout(open, RETRY_MS);
        }
      });
    };

    const close = () => {
      if (source !== null) {
        source.close();
        source = null;
      }
    };

    document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
    window.addEventListener("pagehide", close);
    window.addEventListener("pageshow", open);
    open();
  };

  window.squashReplace = async () => {
    const reply = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (reply.redirected) {
      // The session has ended: what is shown is no longer for whoever looks at it.
      location.reload();
      return;
    }
    if (!reply.ok) {
      return;
    }
    const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
    document.title = fresh.title;
    const focused = document.activeElement === null ? "" : document.activeElement.id;
    for (const old of document.querySelectorAll("[data-live][id]")) {
      const next = fresh.getElementById(old.id);
      if (next === null || next.innerHTML === old.innerHTML) {
        continue;
      }
      for (const details of old.querySelectorAll("details[id]")) {
        const twin = next.querySelector(`#${CSS.escape(details.id)}`);
        if (twin !== null) {
          twin.open = details.open;
        }
      }
      old.replaceWith(document.adoptNode(next));
    }
    const again = focused === "" ? null : document.getElementById(focused);
    if (again !== null && again !== document.activeElement) {
      again.focus({ preventScroll: true });
    }
  };

  window.squashNote = (text) => {
    const note = document.querySelector("[data-live-note]");
    if (note !== null && performance.now() - noted >= NOTE_MS) {
      noted = performance.now();
      note.textContent = text;
    }
  };
})();
