// Keeps a video playing whose address leads to URLs that run out.
//
// `src` is an address of ours, which redirects to a presigned URL. A browser follows it once and reads on from
// that URL. What it does when the URL has run out differs: Chromium takes the storage's refusal, which is no video,
// for a fault of the network (Opaque Response Blocking) and asks again and again before it says so. So a video
// that has nothing to play and is older than its URL lives is renewed as well as one that has failed: the address is
// asked whether it still leads somewhere, and loaded again, and the video goes on at the same moment, at its speed.

const PATIENCE_MS = 700; // browsers say twice in that time that something arrives
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 15_000;
const MOST_IN_VAIN = 3; // reloads after which nothing played: then the file is at fault

/**
 * Watch over a video, each of whose URLs lives for `data-seconds`.
 *
 * `tell(note)` is called with what keeps it from playing, and with null once it plays: "waiting" (no answer; asked
 * again), "busy" (asked too often; asked again), "signed-out", "gone", "broken".
 */
export function keepPlaying(video, tell) {
  const address = video.getAttribute("src");
  let at = video.currentTime;
  let isRenewing = false;
  let inVain = 0;
  let loadedAt = Date.now();
  const hasRunOut = () => Date.now() - loadedAt > video.dataset.seconds * 1000;

  // A failed element says where it wanted to be only until it is loaded again.
  const remember = () => { if (!isRenewing && !video.error) at = video.currentTime; };
  video.addEventListener("seeking", remember);
  video.addEventListener("timeupdate", remember);
  video.addEventListener("timeupdate", () => {
    if (!isRenewing && !video.paused && !video.seeking) inVain = 0;
  });

  async function renew() {
    if (isRenewing) return;
    isRenewing = true;
    const note = inVain < MOST_IN_VAIN ? await untilItLeadsSomewhere(address, tell) : "broken";
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
    // The file may be at fault rather than its address: then the next error counts.
    video.addEventListener("error", () => { isRenewing = false; }, { once: true, capture: true });
    const isPlaying = !video.paused;
    video.defaultPlaybackRate = video.playbackRate; // to which loading sets it
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
      await pause(PATIENCE_MS);
      if (isStuck() && hasRunOut() && Date.now() - arrivedAt > PATIENCE_MS) renew();
    }
    isWatched = false;
  }

  for (const event of ["waiting", "seeking", "stalled"]) video.addEventListener(event, renewIfStuck);
  video.addEventListener("error", renew);
  if (video.error) renew();
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Ask an address until it redirects. What else ends the asking is returned as a note, else null. */
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
