// Keeps a video playing when its presigned URL expires.
//
// `src` is a path of the gateway that redirects to a presigned URL. The browser follows the redirect once and then
// reads from that URL. Browsers behave differently when the URL has expired: Chromium takes the storage's refusal,
// which is not a video, for a network error (Opaque Response Blocking) and retries for a long time before it reports
// it. So a video is renewed in two cases: it has failed, or it has no data to play and its URL has expired. Then the
// script asks whether the path still redirects, loads it again, and continues at the same time and speed.

const STALLED_MS = 700; // browsers report progress twice in this time
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 15_000;
const MOST_RELOADS = 3; // after so many reloads without playback, the file is broken

/**
 * Keep a video playing whose URLs live for `data-seconds`.
 *
 * `tell(note)` is called with the reason why it does not play, and with null when it plays: "waiting" (no answer;
 * retrying), "busy" (too many requests; retrying), "signed-out", "gone", "broken".
 */
export function keepPlaying(video, tell) {
  const address = video.getAttribute("src");
  let at = video.currentTime;
  let isRenewing = false;
  let inVain = 0;
  let loadedAt = Date.now();
  const hasRunOut = () => Date.now() - loadedAt > video.dataset.seconds * 1000;

  // A failed element loses its current time when it is loaded again: read it before.
  const remember = () => { if (!isRenewing && !video.error) at = video.currentTime; };
  video.addEventListener("seeking", remember);
  video.addEventListener("timeupdate", remember);
  video.addEventListener("timeupdate", () => {
    if (!isRenewing && !video.paused && !video.seeking) inVain = 0;
  });

  async function renew() {
    if (isRenewing) return;
    isRenewing = true;
    const note = inVain < MOST_RELOADS ? await untilItLeadsSomewhere(address, tell) : "broken";
    if (note) {
      tell(note);
      isRenewing = false;
      return;
    }
    inVain += 1;
    video.addEventListener("loadedmetadata", () => {
      video.currentTime = at;
      isRenewing = false;
      tell(null);
    }, { once: true });
    // The file may be broken, not its URL: then the next error counts.
    video.addEventListener("error", () => { isRenewing = false; }, { once: true, capture: true });
    const isPlaying = !video.paused;
    video.defaultPlaybackRate = video.playbackRate; // load() resets the speed to this
    loadedAt = Date.now();
    video.src = address;
    if (isPlaying) video.play().catch(() => {});
  }

  let arrivedAt = 0;
  video.addEventListener("progress", () => { arrivedAt = Date.now(); });
  const isStuck = () => (video.seeking || !video.paused) && video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA;
  let isWatched = false;

  async function renewIfStuck() {
    if (isWatched) return;
    isWatched = true;
    while (isStuck() && !isRenewing && !video.error) {
      await pause(STALLED_MS);
      if (isStuck() && hasRunOut() && Date.now() - arrivedAt > STALLED_MS) renew();
    }
    isWatched = false;
  }

  for (const event of ["waiting", "seeking", "stalled"]) video.addEventListener(event, renewIfStuck);
  video.addEventListener("error", renew);
  if (video.error) renew();
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Request a path until it redirects, and return null; return a note if it never will. */
async function untilItLeadsSomewhere(address, tell) {
  for (let wait = FIRST_WAIT_MS; ; wait = Math.min(wait * 2, LONGEST_WAIT_MS)) {
    const { note, seconds } = await ask(address);
    if (note !== "waiting" && note !== "busy") return note;
    tell(note);
    await pause(Math.max(wait, seconds * 1000));
  }
}

async function ask(address) {
  let answer;
  try {
    answer = await fetch(address, { method: "HEAD", redirect: "manual", cache: "no-store" });
  } catch {
    return { note: "waiting", seconds: 0 };
  }
  if (answer.type === "opaqueredirect") return { note: null, seconds: 0 };
  const seconds = Number(answer.headers.get("Retry-After")) || 0;
  if (answer.status === 429) return { note: "busy", seconds };
  if (answer.status >= 500) return { note: "waiting", seconds };
  return { note: answer.status === 401 ? "signed-out" : "gone", seconds };
}
