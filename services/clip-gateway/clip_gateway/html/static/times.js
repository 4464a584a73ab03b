// The server writes times in UTC, because it does not know the reader's time zone. The browser does.

const STYLES = {
  moment: { dateStyle: "medium", timeStyle: "short" },
  day: { dateStyle: "medium" },
};

/** Write every <time data-local="moment|day"> below `root` in the reader's own time zone. */
export function showLocalTimes(root) {
  const language = document.documentElement.lang;
  for (const time of root.querySelectorAll("time[data-local]")) {
    const at = new Date(time.dateTime);
    time.textContent = new Intl.DateTimeFormat(language, STYLES[time.dataset.local]).format(at);
    time.title = at.toISOString();
  }
}

showLocalTimes(document);
