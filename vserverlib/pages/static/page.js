// Keeps a page up to date: the server sends the main part whenever it differs, and only what differs is changed here, so
// that the place of reading, the focus and a selection stay. Without this script the page is complete, but stands still.
"use strict";

(() => {
  const address = document.body.dataset.events;
  const live = document.getElementById("live");
  let source = null;

  const say = (kind, text) => {
    if (live.textContent === text) return;
    live.className = kind;
    live.textContent = text;
  };

  // Makes `old` like `fresh`. Rows are recognized by data-key, so that a bar moves in its own row.
  const update = (old, fresh) => {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of [...fresh.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    updateChildren(old, fresh);
  };

  const key = (node) => (node.dataset && node.dataset.key) || null;

  const updateChildren = (old, fresh) => {
    const keyed = new Map([...old.children].filter(key).map((child) => [key(child), child]));
    let at = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      const known = key(child) ? keyed.get(key(child)) : at && !key(at) ? at : null;
      if (!known) {
        old.insertBefore(child, at);
        continue;
      }
      if (known === at) at = at.nextSibling;
      else old.insertBefore(known, at);
      update(known, child);
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  };

  const show = (event) => {
    const fresh = new DOMParser().parseFromString(event.data, "text/html").querySelector("main");
    const main = document.getElementById("main");
    if (!fresh || !main) return;
    document.title = fresh.dataset.name;
    update(main, fresh);
    say("on", "● live");
  };

  const lost = () => say("off", "○ not connected, trying again");

  const open = () => {
    if (source || document.hidden) return;
    source = new EventSource(address);
    source.addEventListener("page", show);
    source.addEventListener("gone", () => window.location.reload()); // the session has ended, or the task is gone
    source.addEventListener("lost", lost); // the server cannot read its database
    source.addEventListener("error", () => {
      lost();
      if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      close();
      window.setTimeout(again, 5000);
    });
  };

  // The server has answered with an error: the session may have ended, and then the page leads to the log-in.
  const again = () =>
    fetch(window.location.href, { redirect: "manual", cache: "no-store" }).then(
      (answer) => (answer.type === "opaqueredirect" ? window.location.reload() : open()),
      () => window.setTimeout(again, 5000),
    );

  const close = () => {
    if (source) source.close();
    source = null;
  };

  // A hidden tab takes no connection: a browser has six for each server.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  open();
})();
