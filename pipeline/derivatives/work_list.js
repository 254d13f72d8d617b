// The page of all scans: sorts and filters them; served by `strokelesion review`, it is the work list.
const list = document.querySelector("main"), articles = [...list.children];
const STATUSES = ["pending", "accepted", "corrected", "rejected"];
let states = {};

const order = {
  name: (one, other) => one.dataset.name.localeCompare(other.dataset.name),
  volume: (one, other) => other.dataset.volume - one.dataset.volume,
  warnings: (one, other) => other.dataset.warnings - one.dataset.warnings || other.dataset.volume - one.dataset.volume,
  uncertainty: (one, other) => other.dataset.uncertainty - one.dataset.uncertainty,
  status: (one, other) => STATUSES.indexOf(statusOf(one)) - STATUSES.indexOf(statusOf(other)),
};

const statusOf = (article) => states[article.dataset.name]?.status ?? "pending";
const shown = () => [...list.children].filter((article) => !article.hidden);
const chosen = () => list.querySelector("article.here");
const number = (id, otherwise) => (byId(id)?.value ? Number(byId(id).value) : otherwise);

function sort(by) {
  articles.sort(order[by]).forEach((article) => list.append(article));
  document.querySelectorAll("[data-by]").forEach((button) => button.setAttribute("aria-pressed", button.dataset.by === by));
  filter();
  if (chosen()) choose(shown()[0]);
}

function filter() {
  const status = byId("of-status").value, least = number("least", 0), most = number("most", Infinity), uncertain = number("uncertain", 0);
  for (const article of articles) {
    const { volume, warnings, uncertainty } = article.dataset;
    article.hidden = (status && statusOf(article) !== status) || (byId("of-warnings").checked && warnings === "0")
      || volume < least || volume > most || uncertainty < uncertain;
  }
  byId("counts").textContent = shown().length < articles.length ? `${shown().length} of ${articles.length} shown` : "";
  // The pages of the scans lead from one to the next in this order.
  try { sessionStorage.order = JSON.stringify(shown().map((article) => article.dataset.name)); } catch { /* then all by name */ }
}

function choose(article) {
  chosen()?.classList.remove("here");
  article?.classList.add("here");
  article?.scrollIntoView({ block: "nearest" });
}

function step(by) {
  const all = shown(), at = all.indexOf(chosen());
  choose(all[Math.min(Math.max(at < 0 ? 0 : at + by, 0), all.length - 1)]);
}

function showState(article, state) {
  states[article.dataset.name] = state;
  const [status, by] = article.querySelectorAll(".status, .who");
  [status.textContent, status.className, by.textContent] = [state.status, `status ${state.status}`, who(state)];
  article.querySelector("input").value = state.note;
  const counts = STATUSES.slice(1).concat("pending").map((one) => [one, articles.filter((other) => statusOf(other) === one).length]);
  byId("progress").replaceChildren(...counts.map(([one, count]) => Object.assign(document.createElement("i"), { className: one, style: `flex: ${count}` })));
  byId("progress").title = counts.map(([one, count]) => `${count} ${one}`).join(", ");
}

async function save(article, status) {
  const before = states[article.dataset.name];
  try {
    showState(article, await decide(article.dataset.name, before, status ?? before.status, article.querySelector("input").value));
    say(`${article.dataset.name}: ${states[article.dataset.name].status}.`);
  } catch (error) {
    if (error.state) showState(article, error.state);
    say(error.message, true);
    return false;
  }
  return true;
}

async function judge(status) {
  const article = chosen();
  if (!article || !(await save(article, status))) return;
  step(1);
  filter();
}

function addReview(article, state) {
  const line = document.createElement("div");
  line.className = "review bar";
  line.innerHTML = '<span class="status"></span><span class="who quiet"></span><span class="group"><button>accept</button><button>reject</button></span><label class="wide">note <input maxlength="500" autocomplete="off"></label>';
  article.querySelector("img").before(line);
  line.querySelectorAll("button").forEach((button, n) => button.addEventListener("click", () => { choose(article); judge(["accepted", "rejected"][n]); }));
  line.querySelector("input").addEventListener("change", () => save(article));
  article.addEventListener("click", () => choose(article));
  showState(article, state);
}

async function startReview() {
  const found = await ask("review");
  document.querySelectorAll(".reviewed").forEach((part) => { part.hidden = false; });
  if (byId("group")) byId("group").open = false;
  for (const article of articles) if (found[article.dataset.name]) addReview(article, found[article.dataset.name]);
  filter();
  listenToKeys({
    n: () => step(1), p: () => step(-1), arrowdown: () => step(1), arrowup: () => step(-1), j: () => step(1), k: () => step(-1),
    a: () => judge("accepted"), r: () => judge("rejected"), u: () => judge("pending"),
    enter: () => chosen()?.querySelector("a").click(),
  });
  step(1);
  document.body.dataset.ready = "yes";
}

document.querySelectorAll("[data-by]").forEach((button) => button.addEventListener("click", () => sort(button.dataset.by)));
["of-status", "of-warnings", "least", "most", "uncertain"].forEach((id) => byId(id)?.addEventListener("input", filter));
filter();
if (served) startReview().catch((error) => say(error.message, true));
