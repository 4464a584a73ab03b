// The script of the outage page: requests the wanted page until it answers, then opens it.

const FIRST_MS = 2000;
const LONGEST_MS = 15_000;

const page = document.querySelector("[data-retry]").dataset.retry;

async function isBack() {
  try {
    const answer = await fetch(page, { method: "HEAD", redirect: "manual", cache: "no-store" });
    return answer.type === "opaqueredirect" || answer.status < 500;
  } catch {
    return false; // the gateway itself does not answer
  }
}

/** Wait longer after every attempt, with jitter, so that browsers do not all ask at once. */
async function tryAgain(wait) {
  await new Promise((done) => setTimeout(done, wait * (0.75 + Math.random() / 2)));
  if (await isBack()) location.replace(page);
  else tryAgain(Math.min(wait * 1.5, LONGEST_MS));
}

tryAgain(FIRST_MS);
