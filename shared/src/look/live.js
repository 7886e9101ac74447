// Live pages without reload: on every change the server tells of, fetch this page again and swap the parts that differ.
"use strict";
(() => {
  const events = document.body.dataset.events;
  if (!events) return;
  const light = document.getElementById("live");
  const show = (state, text) => {
    if (!light) return;
    light.dataset.state = state;
    light.textContent = text;
  };

  // A part in which someone types or has opened something is left alone until they are done.
  const busy = (part) =>
    part.contains(document.activeElement) && document.activeElement.matches("input, textarea, select");

  const swap = (fresh) => {
    for (const part of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(part.id);
      if (!next || busy(part) || part.innerHTML === next.innerHTML) continue;
      const open = [...part.querySelectorAll("details[open][id]")].map((details) => details.id);
      const typed = [...part.querySelectorAll("input[id], textarea[id]")].map((field) => [field.id, field.value]);
      part.replaceChildren(...next.childNodes);
      for (const id of open) document.getElementById(id)?.setAttribute("open", "");
      for (const [id, value] of typed) {
        const field = document.getElementById(id);
        if (field && value && field.type !== "hidden") field.value = value;
      }
    }
  };

  let running = false;
  let again = false;
  const refresh = async () => {
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "manual" });
      if (answer.type === "opaqueredirect" || answer.status === 401) return location.reload();
      if (answer.ok) swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
      show("off", "reconnecting");
    }
    // At most two refreshes a second, however fast the changes come.
    setTimeout(() => {
      running = false;
      if (again) {
        again = false;
        refresh();
      }
    }, 500);
  };

  const source = new EventSource(events);
  source.onopen = () => {
    show("on", "live");
    refresh();
  };
  source.onerror = () => show("off", "reconnecting");
  source.addEventListener("changed", () => {
    if (document.visibilityState === "visible") refresh();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") refresh();
  });
})();
