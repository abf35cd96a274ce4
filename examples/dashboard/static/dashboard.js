// The live page: receives the changes of the mill, shows them, and sends orders.

import { Plot } from "./plot.js";

const AGAIN = 2000; // milliseconds until the next attempt to connect
const PATIENCE = 5000; // milliseconds in which a connection must open
const QUIET = 20000; // milliseconds of silence after which the page connects again

const page = document.body.dataset;
const connection = document.getElementById("connection");
const said = document.getElementById("said");
const form = document.getElementById("orders");

const plot = new Plot(document.getElementById("plot"), [
  { id: "temperature", label: "Temperature, °C", color: "--temperature", decimals: 1, leastSpan: 10 },
  { id: "spindle_speed", label: "Spindle speed, rpm", color: "--speed", decimals: 0, leastSpan: 600, floor: 0 },
]);

// Receiving

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
    receive(JSON.parse(event.data));
  });
  source.addEventListener("lost", readSamples); // the page was too slow; the missing samples are in the log
  source.addEventListener("error", connectAgain);
  setWatchdog(connectAgain, PATIENCE);
}

// An EventSource stops for good when a gateway answers for an app that is down. So each attempt creates a new one.
function connectAgain() {
  source.close();
  show("connecting again");
  setWatchdog(connect, AGAIN);
}

// A browser does not notice a pulled cable for minutes. So the page connects again after a silence.
function setWatchdog(action, milliseconds) {
  clearTimeout(watchdog);
  watchdog = setTimeout(action, milliseconds);
}

// Read the samples that the page has missed from the log of the mill.
async function readSamples() {
  try {
    const answer = await fetch(page.samples);
    const { now, curves } = await answer.json();
    plot.setClock(Date.parse(now));
    for (const [id, samples] of Object.entries(curves)) {
      for (const [timestamp, value] of samples) plot.add(id, Date.parse(timestamp), value);
    }
  } catch {
    // The connection is lost again. The samples are read when the page has connected again.
  }
}

// Showing

function receive({ id, value, timestamp }) {
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
  if (event.persisted) connect(); // the browser shows a page from its cache
});

connect();
