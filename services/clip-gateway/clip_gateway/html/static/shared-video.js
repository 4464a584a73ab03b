// A published clip's video: goes on when its URL has run out, and starts where the link says.

import { keepPlaying } from "./renewal.js";

const video = document.querySelector("video");
const notes = [...document.querySelectorAll("[data-note]")];

keepPlaying(video, (note) => {
  const shown = note && (notes.find((each) => each.dataset.note === note) ?? notes.at(-1));
  for (const each of notes) each.hidden = each !== shown;
});

/** Start at the second that the link's `#t=83.5` asks for. */
function start() {
  const found = /^#t=(\d{1,6}(?:\.\d{1,3})?)$/.exec(location.hash);
  if (!found) return;
  const go = () => { video.currentTime = Number(found[1]); };
  if (video.readyState >= HTMLMediaElement.HAVE_METADATA) go();
  else video.addEventListener("loadedmetadata", go, { once: true });
}

start();
for (const event of ["play", "pause", "ended"]) {
  video.addEventListener(event, () => document.body.classList.toggle("playing", !video.paused));
}
