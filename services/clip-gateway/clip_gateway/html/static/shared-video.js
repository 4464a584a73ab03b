// The video of a published clip: continues when its URL expires, and starts at the link's time.

import { keepPlaying } from "./renewal.js";

const video = document.querySelector("video");
const notes = [...document.querySelectorAll("[data-note]")];

keepPlaying(video, (note) => {
  const shown = note && (notes.find((each) => each.dataset.note === note) ?? notes.at(-1));
  for (const each of notes) each.hidden = each !== shown;
});

/** Start at the second in the link's `#t=83.5`. */
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
