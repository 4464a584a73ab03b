// The script of a clip's page. The video has the browser's own controls. The script adds steps of one frame,
// repetition, speed, links to a moment, and keyboard shortcuts for all of these.

import { copyFor } from "./copying.js";
import { frameSteps } from "./frames.js";
import { sendFormsInPlace } from "./inplace.js";
import { keepPlaying } from "./renewal.js";

const SWITCH = "clips-shortcuts"; // in localStorage: "off" if the reader switched the shortcuts off

const video = document.getElementById("video");

// --- The link back to the gallery, with its filters ---

const back = document.querySelector("[data-back]");
const cameFrom = document.referrer && new URL(document.referrer);
if (cameFrom && cameFrom.origin === location.origin && cameFrom.pathname === "/") back.href = cameFrom.href;

// --- "Public until" is in the reader's time zone; the form sends it with its offset ---

const twoDigits = (number) => String(number).padStart(2, "0");

function showLocalUntil() {
  const field = document.getElementById("until");
  if (!field || field.dataset.isLocal) return;
  field.dataset.isLocal = "yes";
  if (!field.value) return;
  const at = new Date(`${field.value}Z`);
  const day = [at.getFullYear(), at.getMonth() + 1, at.getDate()].map(twoDigits).join("-");
  field.value = `${day}T${twoDigits(at.getHours())}:${twoDigits(at.getMinutes())}`;
}

document.addEventListener("formdata", ({ formData }) => {
  const until = formData.get("until");
  if (until) formData.set("until", new Date(until).toISOString());
});

sendFormsInPlace(showLocalUntil);
showLocalUntil();

// --- The video ---

if (video) startPlayer();

function startPlayer() {
  const notes = document.getElementById("notes").content;
  const noteBox = document.getElementById("stage-note");
  keepPlaying(video, (note) => {
    const sentence = note && notes.querySelector(`[data-note="${note}"]`).cloneNode(true);
    noteBox.replaceChildren(...(sentence ? [sentence] : []));
  });

  goToSecondOf(location.hash);
  addEventListener("hashchange", () => goToSecondOf(location.hash));

  const step = frameSteps(video);
  const rate = document.getElementById("rate");
  const help = document.getElementById("help");
  const button = (name) => document.querySelector(`[data-do="${name}"]`);

  const actions = {
    "back-frame": () => step(-1),
    "next-frame": () => step(+1),
    loop: () => {
      video.loop = !video.loop;
      button("loop").ariaPressed = String(video.loop);
    },
    "copy-link": () => copyFor(button("copy-link"), linkToMoment()),
    help: () => (help.open ? help.close() : help.showModal()),
  };
  document.addEventListener("click", (event) => {
    const name = event.target.closest("[data-do]")?.dataset.do;
    if (name) actions[name]();
  });

  rate.addEventListener("change", () => { video.playbackRate = Number(rate.value); });
  video.addEventListener("ratechange", () => {
    const known = [...rate.options].find((option) => Number(option.value) === video.playbackRate);
    if (known) rate.value = known.value;
  });

  const second = document.getElementById("second");
  const showSecond = () => {
    const text = clock(video.currentTime);
    if (second.textContent !== text) second.textContent = text;
  };
  video.addEventListener("timeupdate", showSecond);
  video.addEventListener("seeking", showSecond);

  const seekBy = (seconds) => {
    video.currentTime = Math.min(Math.max(video.currentTime + seconds, 0), video.duration || 0);
  };
  const play = () => (video.paused ? video.play().catch(() => {}) : video.pause());
  const changeRate = (by) => {
    rate.selectedIndex = Math.min(Math.max(rate.selectedIndex + by, 0), rate.options.length - 1);
    rate.dispatchEvent(new Event("change"));
  };
  const keys = {
    " ": play, k: play,
    ArrowLeft: () => seekBy(-5), ArrowRight: () => seekBy(5),
    j: () => seekBy(-10), l: () => seekBy(10),
    ",": actions["back-frame"], ".": actions["next-frame"],
    "<": () => changeRate(-1), ">": () => changeRate(1),
    r: actions.loop, c: actions["copy-link"], "?": actions.help,
    m: () => { video.muted = !video.muted; },
    f: () => (document.fullscreenElement ? document.exitFullscreen() : video.requestFullscreen?.()),
  };

  const isOn = document.getElementById("shortcuts-on");
  isOn.checked = stored(SWITCH) !== "off";
  isOn.addEventListener("change", () => store(SWITCH, isOn.checked ? "on" : "off"));

  document.addEventListener("keydown", (event) => {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!isOn.checked || isTakenElsewhere(event, help)) return;
    if (/^\d$/.test(key) && video.duration) video.currentTime = (Number(key) / 10) * video.duration;
    else if (Object.hasOwn(keys, key)) keys[key]();
    else return;
    event.preventDefault();
  });
}

/** Return whether a key press is a shortcut, and not input for the focused element or for the browser. */
function isTakenElsewhere(event, help) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return true;
  if (help.open && event.key !== "?") return true;
  if (event.target.closest("input, select, textarea, [contenteditable]")) return true;
  const isOnControl = event.target.closest("button, a, summary, video");
  return Boolean(isOnControl) && (event.key === " " || event.key === "Enter" || event.key.startsWith("Arrow"));
}

/** Return a link to the current time: the public page of a published clip, else the owner's page. */
function linkToMoment() {
  const address = document.getElementById("share-link")?.value ?? location.origin + location.pathname;
  return `${address}#t=${Math.round(video.currentTime * 10) / 10}`;
}

function goToSecondOf(hash) {
  const found = /^#t=(\d{1,6}(?:\.\d{1,3})?)$/.exec(hash);
  if (!found) return;
  const go = () => { video.currentTime = Math.min(Number(found[1]), video.duration); };
  if (video.readyState >= HTMLMediaElement.HAVE_METADATA) go();
  else video.addEventListener("loadedmetadata", go, { once: true });
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return (hours ? `${hours}:${twoDigits(minutes)}` : minutes) + `:${twoDigits(whole % 60)}`;
}

// The browser may forbid storage: then the switch lasts until the page is closed.
function stored(name) {
  try { return localStorage.getItem(name); } catch { return null; }
}

function store(name, value) {
  try { localStorage.setItem(name, value); } catch { /* see above */ }
}
