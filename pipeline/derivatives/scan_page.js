// The page of one scan: shows T1 and mask, and connects the tools with the editor and the review.
const COLORS = { R: [0, 255, 0], G: [0, 60, 230], B: [0, 40, 230], A: [0, 255, 255], labels: ["", "main", "sub"] };
let viewer, editor, state, order = [], isSaving = false;

async function voxelsOf(base64) {
  const bytes = await unpacked(fromBase64(base64));
  return bytes.subarray(352);
}

// Without WebGL the page shows the slices alone; a decision can be made all the same.
async function start() {
  try {
    if (document.createElement("canvas").getContext("webgl2")) await show();
  } catch (error) {
    console.error(error);
    byId("viewer").hidden = true;
    editor = null;
  }
  if (served) await startReview();
  if (editor) connect();
  const press = (id) => () => byId(id).click();
  const keys = served ? { n: press("next"), p: press("previous"), a: press("accept"), r: press("reject") } : {};
  listenToKeys({ ...keys, ...(editor ? keysOfEditor(press) : {}) });
  document.body.dataset.ready = "yes";
}

async function show() {
  byId("viewer").hidden = false;
  viewer = new niivue.Niivue({ isRadiologicalConvention: false, isOrientationTextVisible: knowsLeft, backColor: [0, 0, 0, 1], show3Dcrosshair: true, crosshairColor: [0.45, 0.72, 1, 0.8], crosshairWidth: 0.6 });
  await viewer.attachToCanvas(byId("gl"));
  viewer.onLocationChange = (position) => {
    byId("position").textContent = "at " + Array.from(position.mm).slice(0, 3).map((mm) => mm.toFixed(0)).join(", ") + " mm";
  };
  viewer.addVolume(await niivue.NVImage.loadFromBase64({ base64: files.image, name: "t1.nii.gz", colormap: "gray", cal_min: 0, cal_max: 255 }));
  viewer.setSliceType(viewer.sliceTypeMultiplanar);
  viewer.setDrawColormap(COLORS);
  editor = new Editor(viewer, files, await voxelsOf(files.percent));
  editor.onChange = showMask;
  files.whole = new Uint8Array(files.shape.reduce((product, size) => product * size, 1));
  editor.copyBox(files.whole, await voxelsOf(files.label), false);
  editor.load(files.whole);
  const rows = [...document.querySelectorAll("tr[data-mm]")];
  rows.forEach((row) => row.addEventListener("click", () => go(row)));
  if (rows.length) go(rows[0]);
}

function go(row) {
  document.querySelectorAll("tr.here").forEach((other) => other.classList.remove("here"));
  row.classList.add("here");
  // The last argument: the millimeters are the scan's, also where its slices lie oblique.
  viewer.scene.crosshairPos = viewer.mm2frac(row.dataset.mm.split(" ").map(Number), 0, true);
  viewer.drawScene();
  viewer.createOnLocationChange();
}

function showLooks() {
  const opacity = byId("opacity").value / 100, isOutline = byId("outline").checked;
  // Faint inside: what is drawn stays visible.
  viewer.drawRimOpacity = opacity;
  viewer.drawOpacity = isOutline ? Math.min(opacity, 0.12) : opacity;
  viewer.volumes[0].cal_max = Number(byId("bright").value);
  viewer.updateGLVolume();
}

function showMask() {
  const count = editor.found.length, { isChanged, ml } = editor.unsaved();
  const change = isChanged ? `, ${ml.toFixed(2)} ml changed and not saved` : "";
  byId("now").textContent = `${count} lesion${count === 1 ? "" : "s"}, ${editor.totalMl.toFixed(2)} ml${change}`;
  byId("undo").disabled = !editor.past.length;
}

function useTool(tool) {
  editor.use(tool, Number(byId("label").value), byId("fill").checked);
  viewer.opts.penSize = Number(byId("size").value);
  document.querySelectorAll("[data-tool]").forEach((button) => button.setAttribute("aria-pressed", button.dataset.tool === tool));
}

const refresh = () => useTool(editor.tool);

function clicked(event) {
  const scale = viewer.uiData.dpr, place = [event.offsetX * scale, event.offsetY * scale];
  if (viewer.inRenderTile(...place) >= 0 || viewer.tileIndex(...place) < 0) return;
  if (!["grow", "delete", "class"].includes(editor.tool)) return;
  say(editor.click(Number(byId("label").value)));
  showThreshold(editor.threshold);
}

function showThreshold(threshold) {
  byId("threshold").value = threshold;
  byId("percent").textContent = `${threshold} %`;
}

function toggle(id) {
  byId(id).checked = !byId(id).checked;
  byId(id).dispatchEvent(new Event("input"));
}

function connect() {
  for (const id of ["outline", "opacity", "bright"]) byId(id).addEventListener("input", showLooks);
  for (const id of ["size", "fill", "label"]) byId(id).addEventListener("input", refresh);
  document.querySelectorAll("[data-tool]").forEach((button) => button.addEventListener("click", () => useTool(button.dataset.tool)));
  byId("gl").addEventListener("click", clicked);
  byId("threshold").addEventListener("input", () => { showThreshold(byId("threshold").value); editor.grow(Number(byId("threshold").value)); });
  byId("threshold").addEventListener("change", () => editor.settle());
  byId("undo").addEventListener("click", () => editor.undo());
  byId("reset").addEventListener("click", () => { editor.replace(files.whole); say("This is the mask that the page was made from. Save it, or undo."); });
  byId("save").addEventListener("click", () => trying(served ? save : download));
  if (!served) byId("save").firstChild.textContent = "download ";
  addEventListener("beforeunload", (event) => { if (editor.isChanged) event.preventDefault(); });
  useTool("look");
  showLooks();
}

function keysOfEditor(press) {
  const tools = { v: "look", d: "pen", e: "eraser", g: "grow", x: "delete", c: "class" };
  return {
    ...Object.fromEntries(Object.entries(tools).map(([key, tool]) => [key, () => useTool(tool)])),
    f: () => toggle("fill"), o: () => toggle("outline"), z: press("undo"), "ctrl+z": press("undo"), s: press("save"), "ctrl+s": press("save"),
  };
}

async function trying(work) {
  if (isSaving) return;
  isSaving = true;
  try { await work(); } catch (error) { say(error.message, true); } finally { isSaving = false; }
}

// As a file, the page saves nothing: it hands out mask and classes as files on the grid of the scan.
async function download() {
  const labels = editor.result(), header = fromBase64(files.header);
  const images = { "label-lesion_desc-manual_mask": labels.map((label) => Number(label > 0)), "seg-lesions_desc-manual_dseg": labels };
  for (const [ending, voxels] of Object.entries(images)) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([await packed(new Blob([header, voxels]))]));
    link.download = `${scanName}_${ending}.nii.gz`;
    link.click();
  }
  editor.saved = editor.last.slice();
  showMask();
  say("The mask and its classes are in your folder of downloads.");
}

function showState(found) {
  state = found;
  byId("status").hidden = false;
  byId("status").textContent = state.status;
  byId("status").className = `status ${state.status}`;
  byId("who").textContent = who(state);
}

async function startReview() {
  byId("review").hidden = false;
  const scans = await ask("review");
  showState(scans[scanName]);
  byId("note").value = state.note;
  const shown = JSON.parse(sessionStorage.order ?? "[]");
  order = shown.includes(scanName) ? shown : Object.keys(scans);
  if (editor) {
    const reply = await fetch(home + "labels/" + scanName);
    if (!reply.ok) throw new Error("the mask could not be loaded");
    editor.load(new Uint8Array(await reply.arrayBuffer()));
  }
  for (const [id, step] of [["previous", -1], ["next", 1]]) {
    const other = order[order.indexOf(scanName) + step];
    byId(id).disabled = !other;
    byId(id).addEventListener("click", () => { location.href = `${other}.html`; });
  }
  for (const [id, status] of [["accept", "accepted"], ["reject", "rejected"]])
    byId(id).addEventListener("click", () => trying(() => finish(status)));
  byId("note").addEventListener("change", () => trying(async () => {
    showState(await decide(scanName, state, state.status, byId("note").value));
    say("Note saved.");
  }));
}

async function finish(status) {
  if (editor?.isChanged) throw new Error("The mask has changes that are not saved. Save them (S), or undo them (Z).");
  showState(await decide(scanName, state, status, byId("note").value));
  say(`Saved: ${state.status}.`);
  byId("next").click();
}

async function save() {
  const about = { version: state.version, initials: initials(), note: byId("note").value, shape: files.shape.join() };
  const drawn = editor.last.slice(), body = await packed(editor.result());
  say("Saving …");
  showState(await ask(`labels/${scanName}?${new URLSearchParams(about)}`, { method: "PUT", body }));
  editor.saved = drawn;
  showMask();
  say("Saved beside the automatic mask.");
}

start().catch((error) => { say(`This page does not work: ${error.message}`, true); console.error(error); });
