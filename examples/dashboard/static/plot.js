// The course of samples on a canvas: a panel for each curve, and one time axis below them all.

const WINDOW = 120000; // milliseconds that the plot shows
const GAP = 3000; // milliseconds without a sample after which the line has a gap
const TIME_STEPS = [5000, 10000, 15000, 30000, 60000]; // milliseconds between two labels

const clock = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

export class Plot {
  constructor(canvas, curves) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.curves = curves.map((curve) => ({ ...curve, samples: [], times: new Set() }));
    this.behind = 0; // milliseconds by which this browser's clock is behind the factory's
    this.added = 0;
    this.pointer = null;
    this.isAsked = false;
    new ResizeObserver(() => this.ask()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.ask());
    canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    canvas.addEventListener("pointerleave", () => this.point(null));
    setInterval(() => this.ask(), 1000); // the time axis also moves without samples
  }

  setClock(now) {
    this.behind = now - Date.now();
    this.ask();
  }

  // A sample may arrive twice, and late: from the log and live.
  add(id, time, value) {
    const curve = this.curves.find((known) => known.id === id);
    if (curve === undefined || typeof value !== "number" || curve.times.has(time)) return;
    if (time < this.now() - WINDOW - GAP) return; // outside of the plot
    const { samples } = curve;
    let place = samples.length;
    while (place > 0 && samples[place - 1].time > time) place -= 1;
    samples.splice(place, 0, { time, value });
    curve.times.add(time);
    discard(curve, this.now() - WINDOW); // here too, because a page in the background may not draw for days
    this.added += 1;
    this.ask();
  }

  point(x) {
    this.pointer = x;
    this.ask();
  }

  // Draw at most once per frame of the screen, however many samples arrive.
  ask() {
    if (this.isAsked) return;
    this.isAsked = true;
    requestAnimationFrame(() => {
      this.isAsked = false;
      this.draw();
    });
  }

  draw() {
    const { width, height } = this.canvas.getBoundingClientRect();
    this.canvas.width = Math.round(width * devicePixelRatio);
    this.canvas.height = Math.round(height * devicePixelRatio);
    this.context.scale(devicePixelRatio, devicePixelRatio);
    this.style = getComputedStyle(this.canvas);
    this.size = Math.min(18, Math.max(13, width / 90)); // font size in pixels
    this.context.font = `${this.size}px ${this.style.fontFamily}`;
    this.until = this.now();
    this.from = this.until - WINDOW;
    for (const curve of this.curves) {
      discard(curve, this.from);
      curve.scale = scaleOf(curve);
    }

    const edge = Math.min(24, Math.max(14, width / 60));
    this.left = edge + this.widestNumber() + 10;
    this.right = width - edge;
    const bottom = height - edge - 1.6 * this.size;
    const labelled = 2 * this.size; // the height of a panel's label
    const panel = (bottom - edge + 0.8 * this.size) / this.curves.length;
    this.curves.forEach((curve, index) => {
      const top = edge + index * panel + labelled;
      this.drawPanel(curve, top, top + panel - labelled - 0.8 * this.size);
    });
    const half = this.context.measureText("00:00:00").width / 2;
    for (const time of this.times()) {
      if (this.x(time) + half < width) this.write(clock.format(time), this.x(time), height - edge, "center");
    }
    this.canvas.dataset.points = this.added;
  }

  drawPanel(curve, top, bottom) {
    const { low, high, step, places } = curve.scale;
    const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - top);
    for (const time of this.times()) this.line(this.x(time), top, this.x(time), bottom, "--grid");
    for (let value = low; value <= high + step / 2; value += step) {
      this.line(this.left, y(value), this.right, y(value), "--grid");
      this.write(value.toFixed(places), this.left - 10, y(value) + 0.35 * this.size, "right");
    }
    this.write(curve.label, this.left, top - 0.7 * this.size, "left", "--text");
    this.drawCurve(curve, top, bottom, y);
    this.drawReading(curve, top, bottom, y);
  }

  drawCurve({ samples, color }, top, bottom, y) {
    const { context } = this;
    context.save();
    context.beginPath();
    context.rect(this.left, top - 4, this.right - this.left, bottom - top + 8);
    context.clip();
    context.strokeStyle = this.color(color);
    context.lineWidth = this.size / 6;
    context.lineJoin = context.lineCap = "round";
    context.beginPath();
    samples.forEach(({ time, value }, index) => {
      const isBroken = index === 0 || time - samples[index - 1].time > GAP;
      context[isBroken ? "moveTo" : "lineTo"](this.x(time), y(value));
    });
    context.stroke();
    context.restore();
  }

  // Mark the newest sample, or the sample at the pointer, whose value and time are written out.
  drawReading({ samples, color, decimals }, top, bottom, y) {
    const isPointed = this.pointer !== null && this.pointer >= this.left && this.pointer <= this.right;
    const sample = isPointed ? this.nearest(samples) : samples.at(-1);
    if (sample === undefined || sample.time < this.from) {
      this.write("No samples in these two minutes.", (this.left + this.right) / 2, (top + bottom) / 2, "center");
      return;
    }
    const x = Math.min(this.x(sample.time), this.right);
    if (isPointed) {
      this.line(x, top, x, bottom, "--faint");
      const written = `${sample.value.toFixed(decimals)} at ${clock.format(sample.time)}`;
      this.write(written, this.right, top - 0.7 * this.size, "right", color);
    }
    this.context.fillStyle = this.color(color);
    this.context.beginPath();
    this.context.arc(x, y(sample.value), this.size / 3, 0, 2 * Math.PI);
    this.context.fill();
  }

  now() {
    return Date.now() + this.behind;
  }

  x(time) {
    return this.left + ((time - this.from) / WINDOW) * (this.right - this.left);
  }

  // Return the times with a label, as many as there is room for.
  times() {
    const room = 1.8 * this.context.measureText("00:00:00").width;
    const step = TIME_STEPS.find((time) => (time / WINDOW) * (this.right - this.left) >= room) ?? TIME_STEPS.at(-1);
    const first = Math.ceil(this.from / step) * step;
    return Array.from({ length: Math.floor((this.until - first) / step) + 1 }, (_, index) => first + index * step);
  }

  widestNumber() {
    const ends = ({ scale: { low, high, places } }) => [low.toFixed(places), high.toFixed(places)];
    const numbers = this.curves.flatMap(ends);
    return Math.max(...numbers.map((number) => this.context.measureText(number).width));
  }

  nearest(samples) {
    const distance = (sample) => Math.abs(this.x(sample.time) - this.pointer);
    return samples.reduce((best, sample) => (distance(sample) < distance(best) ? sample : best), samples[0]);
  }

  color(name) {
    return this.style.getPropertyValue(name).trim();
  }

  write(text, x, y, align, color = "--faint") {
    this.context.textAlign = align;
    this.context.fillStyle = this.color(color);
    this.context.fillText(text, x, y);
  }

  line(fromX, fromY, toX, toY, color) {
    this.context.strokeStyle = this.color(color);
    this.context.lineWidth = 1;
    this.context.beginPath();
    this.context.moveTo(fromX, fromY);
    this.context.lineTo(toX, toY);
    this.context.stroke();
  }
}

// Discard samples before the window, except the last, so that the line enters from the left.
function discard({ samples, times }, from) {
  const seen = samples.findIndex((sample) => sample.time >= from);
  const gone = (seen === -1 ? samples.length : seen) - 1;
  if (gone > 0) samples.splice(0, gone).forEach((sample) => times.delete(sample.time));
}

// Return an axis with round numbers: steps of 1, 2 or 5 times a power of ten.
function scaleOf({ samples, leastSpan, floor }) {
  const values = samples.map((sample) => sample.value);
  let low = Math.min(...(values.length ? values : [0]), floor ?? Infinity);
  let high = Math.max(...(values.length ? values : [0]), floor ?? -Infinity);
  if (high - low < leastSpan) {
    low = floor ?? (low + high - leastSpan) / 2;
    high = low + leastSpan;
  }
  const rough = (high - low) / 4;
  const power = Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * 10 ** power).find((candidate) => candidate >= rough);
  const places = Math.max(0, -Math.floor(Math.log10(step)));
  return { low: Math.floor(low / step) * step, high: Math.ceil(high / step) * step, step, places };
}
