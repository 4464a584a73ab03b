// Sends forms of class "inplace" without leaving the page, so that the video keeps playing.
//
// The forms go to the same routes as without scripts. The script reads the page that the redirect leads to, and
// replaces the parts that a form can change: elements whose ids begin with "part-", and the messages.

import { showLocalTimes } from "./times.js";

const TOAST_MS = 8000;
const messages = () => document.getElementById("messages");

/** Send the forms of a page in place. `changed()` is called after parts of it were replaced. */
export function sendFormsInPlace(changed) {
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form.inplace")) return;
    event.preventDefault();
    send(event.target, changed);
  });
  document.addEventListener("click", (event) => {
    const dismiss = event.target.closest("[data-dismiss]");
    if (!dismiss) return;
    event.preventDefault();
    dismiss.closest(".notice").remove();
  });
  dropToastLater();
}

async function send(form, changed) {
  if (form.ariaBusy === "true") return;
  form.ariaBusy = "true";
  try {
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    if (answer.status === 401) location.reload(); // the sign-in has expired: a reload leads to the sign-in page
    else if (answer.status >= 500) showFailure();
    else {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (answer.ok) take(page, changed);
      else showFailure(page.querySelector("[data-reason]")?.textContent);
    }
  } catch {
    showFailure();
  } finally {
    form.ariaBusy = null;
  }
}

function take(page, changed) {
  const focused = document.activeElement.closest("[id^=part-]");
  for (const part of document.querySelectorAll("[id^=part-]")) {
    const fresh = page.getElementById(part.id);
    if (fresh && fresh.innerHTML !== part.innerHTML) part.replaceChildren(...fresh.childNodes);
    showLocalTimes(part);
  }
  messages().replaceChildren(...page.getElementById("messages").childNodes);
  document.title = page.title;
  // If the pressed button is gone, the focus moves to the element that replaced it.
  if (focused && document.activeElement === document.body) {
    focused.querySelector("[tabindex], button, summary, a")?.focus({ preventScroll: true });
  }
  dropToastLater();
  changed();
}

function showFailure(sentence) {
  const failure = document.getElementById("failure").content.cloneNode(true);
  if (sentence) failure.querySelector("[data-sentence]").textContent = sentence;
  messages().replaceChildren(failure);
}

/** Remove the confirmation after a while: the page shows the result too. */
function dropToastLater() {
  const toast = messages().querySelector(".toast.done");
  if (toast) setTimeout(() => toast.remove(), TOAST_MS);
}
