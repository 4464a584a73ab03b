// Steps of one frame, for videos whose frame rate the page does not know.
//
// The browser reports the time of every frame that it shows (requestVideoFrameCallback). While the video plays,
// the distance of two frames is measured. A step seeks to the middle of the neighbour frame, and further if the
// browser still shows the same frame.

const GUESS_SECONDS = 1 / 60;
const MOST_TRIES = 8;
const SHOWN_WITHIN_MS = 200;

/** Return `step(direction)`: show the frame before (-1) or after (+1) the one that is shown. */
export function frameSteps(video) {
  const knowsFrames = "requestVideoFrameCallback" in HTMLVideoElement.prototype;
  let shown = null; // the time of the frame on the screen
  let distance = GUESS_SECONDS;
  let isStepping = false;
  let waiting = null;

  function onFrame(_now, { mediaTime }) {
    const passed = mediaTime - (shown ?? mediaTime);
    // At higher speeds, and on slow machines, the browser skips frames: the shortest distance is the right one.
    if (!video.paused && passed > 0.003 && passed < 0.2) distance = learned(passed);
    shown = mediaTime;
    waiting?.();
    video.requestVideoFrameCallback(onFrame);
  }

  let isLearned = false;
  function learned(passed) {
    const next = isLearned ? Math.min(distance, passed) : passed;
    isLearned = true;
    return next;
  }

  if (knowsFrames) video.requestVideoFrameCallback(onFrame);

  async function show(second) {
    const seeked = new Promise((done) => video.addEventListener("seeked", done, { once: true }));
    const painted = new Promise((done) => { waiting = done; });
    video.currentTime = second;
    await seeked;
    await Promise.race([painted, new Promise((done) => setTimeout(done, SHOWN_WITHIN_MS))]);
    waiting = null;
  }

  return async function step(direction) {
    if (isStepping || video.readyState < HTMLMediaElement.HAVE_METADATA) return;
    isStepping = true;
    video.pause();
    const from = knowsFrames ? (shown ?? video.currentTime) : video.currentTime;
    for (let tries = 1; tries <= MOST_TRIES; tries += 1) {
      const steps = direction > 0 ? tries + 0.5 : 0.5 - tries;
      const target = Math.min(Math.max(from + steps * distance, 0), video.duration);
      await show(target);
      if (!knowsFrames || shown !== from || target === 0 || target === video.duration) break;
    }
    isStepping = false;
  };
}
