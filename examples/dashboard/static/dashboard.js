// The live page: it hears the mill's changes, shows them, and sends orders.

import { Plot } from "./plot.js";

const AGAIN = 2000; // milliseconds until the next attempt
const PATIENCE = 5000; // milliseconds in which a connection has to open
const QUIET = 20000; // milliseconds of silence after which a connection is made anew

const page = document.body.dataset;
const connection = document.getElementById("connection");
const said = document.getElementById("said");
const form = document.getElementById("orders");

const plot = new Plot(document.getElementById("plot"), [
  { id: "temperature", label: "Temperature, °C", color: "--temperature", decimals: 1, leastSpan: 10 },
  { id: "spindle_speed", label: "Spindle speed, rpm", color: "--speed", decimals: 0, leastSpan: 600, floor: 0 },
]);

// Hearing

let source = null;
let watchdog = 0;

function connect() {
  source?.close();
  source = new EventSource(page.changes);
  source.addEventListener("open", () => {
    setWatchdog(connect, QUIET);
    show("live");
    readSamples();
  });
  source.addEventListener("message", (event) => {
    setWatchdog(connect, QUIET);
    hear(JSON.parse(event.data));
  });
  source.addEventListener("lost", readSamples); // this page was too slow: what it missed is in the log
  source.addEventListener("error", connectAgain);
  setWatchdog(connectAgain, PATIENCE);
}

// An EventSource gives up for good when a gateway answers for an app that is away. So each attempt is a new one.
function connectAgain() {
  source.close();
  show("connecting again");
  setWatchdog(connect, AGAIN);
}

// To the browser a cable that is pulled is no error for minutes. So after a silence a new connection has to open.
function setWatchdog(action, milliseconds) {
  clearTimeout(watchdog);
  watchdog = setTimeout(action, milliseconds);
}

// What the page could not hear is in the mill's log.
async function readSamples() {
  try {
    const answer = await fetch(page.samples);
    const { now, curves } = await answer.json();
    plot.setClock(Date.parse(now));
    for (const [id, samples] of Object.entries(curves)) {
      for (const [timestamp, value] of samples) plot.add(id, Date.parse(timestamp), value);
    }
  } catch {
    // The connection is gone again, and is made again: then it is read again.
  }
}

// Showing

function hear({ id, value, timestamp }) {
  for (const element of document.querySelectorAll(`[data-attribute="${id}"]`)) {
    element.textContent = written(value, element.dataset.decimals);
    element.dataset.value = value;
  }
  plot.add(id, Date.parse(timestamp), value);
}

function written(value, decimals) {
  if (typeof value === "number") return value.toFixed(decimals ?? 0);
  return value === "UNAVAILABLE" && decimals !== undefined ? "–" : String(value);
}

function show(state) {
  connection.textContent = state;
  document.body.dataset.connection = state;
}

// Ordering

async function order(button) {
  const speed = document.getElementById("speed").value;
  button.setAttribute("aria-busy", "true");
  tell("", false);
  try {
    const answer = await fetch(button.dataset.url, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(button.className === "halt" ? {} : { speed }),
    });
    if (!answer.ok) throw new Error(`The dashboard answers with status ${answer.status}. Try again.`);
    const reply = await answer.json();
    tell(reply.said, !reply.done);
  } catch (error) {
    tell(error instanceof TypeError ? "The dashboard cannot be reached. Try again." : error.message, true);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

function tell(text, isError) {
  said.textContent = text;
  said.classList.toggle("error", isError);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  order(form.querySelector("[type=submit]"));
});
for (const button of form.querySelectorAll("[type=button]")) {
  button.addEventListener("click", () => order(button));
}
addEventListener("pagehide", () => {
  clearTimeout(watchdog);
  source.close();
});
addEventListener("pageshow", (event) => {
  if (event.persisted) connect(); // the browser had kept the page, and shows it again
});

connect();
