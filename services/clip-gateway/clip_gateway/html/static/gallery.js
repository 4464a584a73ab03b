// The script of the gallery: counts the selection, plays previews, and reports failed requests.

import { showLocalTimes } from "./times.js";

const PREVIEW_AFTER_MS = 350;
const TOAST_MS = 8000;
const messages = () => document.getElementById("messages");

// --- After htmx has replaced a part of the page ---

document.addEventListener("htmx:after:swap", () => {
  showLocalTimes(document.getElementById("gallery"));
  countSelected();
});

// If the pressed button is gone, the focus moves to the element that replaced it.
const pressed = new WeakMap();
document.addEventListener("htmx:before:request", ({ detail }) => {
  pressed.set(detail.ctx, detail.ctx.sourceElement.closest(".card")?.id);
});
document.addEventListener("htmx:finally:request", ({ detail }) => {
  const card = document.getElementById(pressed.get(detail.ctx) ?? "");
  if (card && document.activeElement === document.body) card.querySelector("button, a")?.focus();
});

// Empty filters are left out of the address.
document.addEventListener("htmx:config:request", ({ detail }) => {
  if (detail.ctx.sourceElement.id !== "filters") return;
  const chosen = detail.ctx.request.body;
  for (const [name, value] of [...chosen]) if (!value || (name === "order" && value === "newest")) chosen.delete(name);
});

document.addEventListener("htmx:response:error", ({ detail }) => {
  const { response, text } = detail.ctx;
  if (response.status === 401) location.reload(); // the sign-in has expired: a reload leads to the sign-in page
  else if (!text?.includes("<hx-partial")) showFailure();
});
document.addEventListener("htmx:error", showFailure);

// A notice disappears by itself, because the card shows the result too; one with Undo stays until closed.
new MutationObserver(() => {
  const toast = messages()?.querySelector(".toast.done");
  if (toast && !toast.querySelector("form")) setTimeout(() => toast.remove(), TOAST_MS);
}).observe(document.body, { childList: true, subtree: true });

function showFailure() {
  messages().replaceChildren(document.getElementById("failure").content.cloneNode(true));
}

document.addEventListener("click", (event) => {
  const dismiss = event.target.closest("[data-dismiss]");
  if (!dismiss) return;
  event.preventDefault();
  dismiss.closest(".notice").remove();
});

// A poster's URL works for some minutes: if it has expired, load the redirect to a new one.
document.addEventListener("error", ({ target }) => {
  const again = target.dataset?.again;
  if (!again) return;
  delete target.dataset.again;
  target.src = again;
}, true);

// --- The selection ---

const picks = () => [...document.querySelectorAll(".pick input")];

function countSelected() {
  const output = document.querySelector(".batch-count");
  if (!output) return;
  const count = picks().filter((pick) => pick.checked).length;
  output.textContent = count === 1 ? output.dataset.one : output.dataset.many.replace("#", count);
}

let lastPicked = null;

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-select-all]")) {
    for (const pick of picks()) pick.checked = true;
    countSelected();
    return;
  }
  if (!event.target.matches?.(".pick input")) return;
  if (event.shiftKey && lastPicked?.isConnected) {
    const all = picks();
    const [from, to] = [all.indexOf(lastPicked), all.indexOf(event.target)].sort((a, b) => a - b);
    for (const pick of all.slice(from, to + 1)) pick.checked = event.target.checked;
  }
  lastPicked = event.target;
  countSelected();
});

document.addEventListener("reset", () => setTimeout(countSelected));
document.addEventListener("htmx:after:request", (event) => {
  if (event.target.id !== "batch" || event.detail.ctx.response.status >= 400) return;
  for (const pick of picks()) pick.checked = false;
});

// --- Previews: a silent video over the poster, while the pointer or the focus is on a card ---

const calm = matchMedia("(prefers-reduced-motion: reduce)");
let preview = null;

function start(card) {
  const link = card.querySelector("[data-preview]");
  if (!link || calm.matches || navigator.connection?.saveData || preview?.card === card) return;
  stop();
  preview = { card, timer: setTimeout(() => play(card, link.dataset.preview), PREVIEW_AFTER_MS) };
}

function play(card, address) {
  const video = Object.assign(document.createElement("video"), {
    src: address, muted: true, playsInline: true, disableRemotePlayback: true,
  });
  video.setAttribute("aria-hidden", "true");
  video.tabIndex = -1;
  video.addEventListener("playing", () => video.classList.add("is-playing"), { once: true });
  video.addEventListener("ended", () => video.remove(), { once: true });
  preview.video = video;
  card.querySelector(".poster").append(video);
  video.play().catch(() => {}); // stopped before it began, or not available: the poster stays
}

function stop() {
  if (!preview) return;
  clearTimeout(preview.timer);
  if (preview.video) {
    preview.video.pause();
    preview.video.removeAttribute("src"); // ends the download
    preview.video.load();
    preview.video.remove();
  }
  preview = null;
}

for (const [begin, end] of [["pointerover", "pointerout"], ["focusin", "focusout"]]) {
  document.addEventListener(begin, (event) => {
    if (event.pointerType === "touch") return;
    const card = event.target.closest?.(".card");
    if (card && event.target.closest(".poster, .card-title")) start(card);
    else if (!card?.contains(preview?.card ?? null)) stop();
  });
  document.addEventListener(end, (event) => {
    if (preview && !preview.card.contains(event.relatedTarget)) stop();
  });
}
