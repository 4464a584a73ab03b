// Buttons that copy a text, and confirm it in their own label.

const SAID_MS = 2500;

/** Put a text on the clipboard; false: the browser does not allow it. */
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

/** Copy a text and show a confirmation in the button for a moment. The button keeps its width. */
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

// A click into a field with text to copy selects the whole text.
document.addEventListener("focusin", (event) => {
  if (event.target.matches(".copied :read-only")) event.target.select();
});
