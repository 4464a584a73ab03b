// Buttons that copy a text, and say so in their own place.

const SAID_MS = 2500;

/** Put a text on the clipboard; false where the browser does not let us. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelecting(text); // no clipboard API on plain HTTP
  }
}

function copyBySelecting(text) {
  const field = Object.assign(document.createElement("textarea"), { value: text, readOnly: true });
  field.className = "visually-hidden";
  const focused = document.activeElement;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  focused?.focus({ preventScroll: true });
  return done;
}

/** Copy a text for a button, which says for a moment that it is done. Its width stays. */
export async function copyFor(button, text) {
  if (!(await copy(text))) return;
  const label = button.querySelector("span");
  if (!label || label.dataset.plain) return;
  label.dataset.plain = "kept";
  const plain = [...label.childNodes];
  button.style.minWidth = `${button.offsetWidth}px`;
  label.replaceChildren(button.dataset.done);
  setTimeout(() => {
    label.replaceChildren(...plain);
    delete label.dataset.plain;
    button.style.minWidth = "";
  }, SAID_MS);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const field = document.getElementById(button.dataset.copy);
  field.select();
  copyFor(button, field.value);
});

// A click into such a field means all of it.
document.addEventListener("focusin", (event) => {
  if (event.target.matches(".copied :read-only")) event.target.select();
});
