const now = document.getElementById("now");
const source = new EventSource(document.currentScript.dataset.events);
source.onmessage = message => { now.textContent = JSON.parse(message.data).value; };
