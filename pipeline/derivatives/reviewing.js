// Talk to `strokelesion review`, which serves this page; a page that was opened as a file has nobody to talk to.
const served = location.protocol.startsWith("http");
const byId = (id) => document.getElementById(id);
const home = location.pathname.includes("/pages/") ? "../" : "";

function say(text, isError = false) {
  byId("message").textContent = text;
  byId("message").className = isError ? "error" : "";
}

// Send a request; return the answer as JSON. A refused one becomes an error with the server's words, and with the state it sent.
async function ask(path, options) {
  let reply;
  try {
    reply = await fetch(home + path, options);
  } catch {
    throw new Error("`strokelesion review` does not answer: nothing was saved. Start it again, and open the address that it prints.");
  }
  const answer = await reply.json().catch(() => ({}));
  if (!reply.ok) throw Object.assign(new Error(answer.message ?? `The server answered ${reply.status}.`), { state: answer.state });
  return answer;
}

// Initials stay for the next scan, where the browser remembers anything.
function initials() {
  const found = byId("initials").value.trim();
  if (!found) {
    byId("initials").focus();
    throw new Error("Enter your initials first.");
  }
  try { localStorage.initials = found; } catch { /* only forgotten */ }
  return found;
}

function decide(name, state, status, note) {
  const decision = { version: state.version, status, note, initials: initials() };
  const headers = { "Content-Type": "application/json" };
  return ask("review/" + name, { method: "PUT", headers, body: JSON.stringify(decision) });
}

function who(state) {
  const when = state.date ? new Date(state.date).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : "";
  return [state.initials, when, state.is_outdated ? "the mask changed after this decision" : ""].filter(Boolean).join(", ");
}

// Letters work wherever no text is being typed. NiiVue has keys of its own, which must not act at the same time.
function listenToKeys(actions) {
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.matches("input:not([type=range]):not([type=checkbox]), select, textarea");
    const key = (event.ctrlKey || event.metaKey ? "ctrl+" : "") + event.key.toLowerCase();
    if (isTyping && ["enter", "escape"].includes(key)) event.target.blur();
    const isPressing = key === "enter" && event.target.matches("button, a");
    if (isTyping || isPressing || event.altKey || !actions[key]) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    actions[key]();
  }, true);
  document.addEventListener("keyup", (event) => { if (actions[event.key.toLowerCase()]) event.stopImmediatePropagation(); }, true);
}

if (served) {
  try { byId("initials").value = localStorage.initials ?? ""; } catch { /* the browser remembers nothing */ }
}
