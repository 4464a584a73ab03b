// Plays the videos of a page side by side. Of each it notes which picture is on screen when, and, from its tapped
// audio, which beep is heard when: a note is [seconds of the clip, number or hertz, …].

const TAP = `
registerProcessor("tap", class extends AudioWorkletProcessor {
  quiet = sampleRate
  beep = null

  process([input]) {
    const samples = input[0] ?? new Float32Array(128)
    samples.forEach((level, at) => {
      if (Math.abs(level) > 0.06) {
        if (this.quiet >= sampleRate / 4 && !this.beep) this.beep = {frame: currentFrame + at, levels: []}
        this.quiet = 0
      } else {
        this.quiet++
      }
      if (this.beep && this.beep.levels.push(level) >= sampleRate / 25) {
        this.port.postMessage({seconds: this.beep.frame / sampleRate, hertz: hertz(this.beep.levels)})
        this.beep = null
      }
    })
    return true
  }
})

// By when the beep crosses zero; its first moments may be smeared.
function hertz(levels) {
  const crossed = []
  for (let at = Math.round(sampleRate / 200); at < levels.length; at++) {
    const [before, now] = [levels[at - 1], levels[at]]
    if (before < 0 && now >= 0) crossed.push(at - now / (now - before))
  }
  return crossed.length > 1 ? (crossed.length - 1) * sampleRate / (crossed.at(-1) - crossed[0]) : 0
}
`
const BITS = 11
const CLOCK_MS = 10

// The number in the picture on screen: twelfths of the width, the lowest bit on the left, white is 1.
function shown(video, pixels) {
  const {videoWidth: width, videoHeight: height} = video
  if (!width) return -1
  if (pixels.canvas.width !== width) Object.assign(pixels.canvas, {width, height: 1})
  pixels.drawImage(video, 0, Math.floor(height / 30), width, 1, 0, 0, width, 1)
  const row = pixels.getImageData(0, 0, width, 1).data
  const box = width / (BITS + 1)
  return Array.from({length: BITS}, (_, bit) => row[4 * Math.floor((bit + 0.5) * box)] > 127 ? 1 << bit : 0)
    .reduce((sum, value) => sum + value)
}

// The colours in the middle of each of eight bars.
function bars(video, pixels) {
  const {videoWidth: width, videoHeight: height} = video
  pixels.drawImage(video, 0, Math.floor(height / 2), width, 1, 0, 0, width, 1)
  const row = pixels.getImageData(0, 0, width, 1).data
  return Array.from({length: 8}, (_, bar) => 4 * Math.floor((bar + 0.5) * width / 8))
    .map(at => Array.from(row.slice(at, at + 3)))
}

function ready(video) {
  return new Promise(resolve => {
    if (video.readyState >= 2 || video.error) resolve()
    for (const event of ["loadeddata", "error"]) video.addEventListener(event, resolve)
  })
}

async function watch(video, context, patience_seconds) {
  const pixels = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true})
  const seen = [], heard = [], clock = []
  const tap = new AudioWorkletNode(context, "tap", {channelCount: 1, channelCountMode: "explicit"})
  context.createMediaElementSource(video).connect(tap).connect(context.destination)
  // What the context renders now is heard a little later: the page is told of both clocks.
  tap.port.onmessage = ({data: {seconds, hertz}}) => {
    const now = context.getOutputTimestamp()
    heard.push([now.performanceTime + 1000 * (seconds - now.contextTime), hertz])
  }
  const note = (_, frame) => {
    seen.push([frame.mediaTime, shown(video, pixels), frame.presentationTime])
    video.requestVideoFrameCallback(note)
  }
  video.requestVideoFrameCallback(note)
  const ticking = setInterval(() => clock.push([performance.now(), video.currentTime]), CLOCK_MS)
  const ended = new Promise(resolve => {
    video.addEventListener("ended", () => resolve(null))
    video.addEventListener("error", () => resolve(video.error.message))
    setTimeout(() => resolve(`stopped at ${video.currentTime} s`), 1000 * patience_seconds)
  })
  await Promise.race([ready(video), ended])
  seen.push([0, shown(video, pixels), 0])
  const refused = new Promise(resolve => video.play().catch(error => resolve(error.message)))
  const problem = await Promise.race([ended, refused])
  await new Promise(resolve => setTimeout(resolve, 200))  // what is still on its way from the tap
  clearInterval(ticking)
  return {
    problem, seconds: video.duration, at: video.currentTime, bars: video.videoWidth ? bars(video, pixels) : [],
    pictures: seen.map(([time, number]) => [time, number]),
    beeps: heard.map(([time, hertz]) => [timeOf(clock, time), hertz, onScreen(seen, time)]),
  }
}

// Where in the clip the player was at a moment.
function timeOf(clock, moment) {
  const after = clock.findIndex(([time]) => time >= moment)
  if (after < 1) return clock.at(after)?.[1] ?? 0
  const [[earlier, from], [later, to]] = [clock[after - 1], clock[after]]
  return from + (to - from) * (moment - earlier) / (later - earlier)
}

function onScreen(seen, moment) {
  return seen.findLast(([, , time]) => time <= moment)?.[1] ?? null
}

async function playAll(patience_seconds) {
  const context = new AudioContext({sampleRate: 48000})
  await context.audioWorklet.addModule(URL.createObjectURL(new Blob([TAP], {type: "text/javascript"})))
  const reports = await Promise.all(
    Array.from(document.querySelectorAll("video"), video => watch(video, context, patience_seconds)))
  await context.close()
  return reports
}
