// Correct the mask of one scan: NiiVue draws with pen and eraser, the rest is here.
// Arrays are in NiiVue's order of voxels, whose axes run to the right, to the front and up; files keep their own order.

async function unpacked(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function packed(bytes) {
  return new Response(new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"))).arrayBuffer();
}

const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

class Editor {
  constructor(viewer, data, percentOfFile) {
    Object.assign(this, { viewer, data, tool: "look", threshold: 50, chosen: null, onChange: () => {} });
    const volume = viewer.volumes[0];
    this.perm = volume.permRAS;
    this.box = volume.hdr.dims.slice(1, 4);
    this.size = this.perm.map((axis) => this.box[Math.abs(axis) - 1]);
    this.ml = volume.hdr.pixDims.slice(1, 4).reduce((product, mm) => product * mm, 1) / 1000;
    this.percent = this.ordered(percentOfFile, false);
    viewer.setDrawingEnabled(true);
    viewer.setDrawingEnabled(false);
    viewer.onDrawingChanged = (action) => { if (action === "draw") this.settle(); };
  }

  // Return voxels of the box in NiiVue's order from those in the order of the file, or the reverse.
  ordered(from, isToFile) {
    const stride = [1, this.box[0], this.box[0] * this.box[1]];
    const [xs, ys, zs] = this.perm.map((axis, n) => Array.from({ length: this.size[n] }, (_, i) =>
      stride[Math.abs(axis) - 1] * (axis > 0 ? i : this.size[n] - 1 - i)));
    const to = new Uint8Array(from.length);
    let n = 0;
    for (const z of zs) for (const y of ys) for (const x of xs) {
      if (isToFile) to[x + y + z] = from[n++];
      else to[n++] = from[x + y + z];
    }
    return to;
  }

  // Start from labels of the whole grid in the order of the file; only those in the box can be edited.
  load(whole) {
    this.whole = whole;
    this.last = this.ordered(this.copyBox(whole, new Uint8Array(this.percent.length), true), false);
    this.bitmap.set(this.last);
    this.saved = this.last.slice();
    this.lastWhole = whole;
    this.past = [];
    this.show();
  }

  // Draw other labels of the whole grid; like any change it can be undone.
  replace(whole) {
    this.whole = whole;
    this.bitmap.set(this.ordered(this.copyBox(whole, new Uint8Array(this.percent.length), true), false));
    this.settle();
  }

  // Return the labels of the whole grid in the order of the file.
  result() {
    const whole = this.whole.slice();
    this.copyBox(whole, this.ordered(this.bitmap, true), false);
    return whole;
  }

  copyBox(whole, box, isFromWhole) {
    const [nx, ny, nz] = this.box, [sx, sy, sz] = this.data.start, [wx, wy] = this.data.shape;
    for (let z = 0; z < nz; z++) for (let y = 0; y < ny; y++) {
      const inBox = nx * (y + ny * z), inWhole = sx + wx * (sy + y + wy * (sz + z));
      if (isFromWhole) box.set(whole.subarray(inWhole, inWhole + nx), inBox);
      else whole.set(box.subarray(inBox, inBox + nx), inWhole);
    }
    return box;
  }

  get bitmap() { return this.viewer.drawBitmap; }
  get isChanged() { return this.unsaved().isChanged; }
  get totalMl() { return this.ml * this.found.reduce((sum, lesion) => sum + lesion.length, 0); }

  // Return whether the labels differ from the saved ones, and the volume that was added or removed.
  unsaved() {
    const { last, saved } = this;
    let isChanged = false, count = 0;
    for (let n = 0; n < last.length; n++) {
      if (last[n] === saved[n]) continue;
      isChanged = true;
      if (!last[n] || !saved[n]) count++;
    }
    return { isChanged, ml: this.ml * count };
  }

  // Return the voxels that are connected to the first ones by faces, edges or corners, where a function holds.
  flood(seeds, holds, seen = new Uint8Array(this.bitmap.length)) {
    const [nx, ny, nz] = this.size, found = [...seeds];
    for (const n of found) seen[n] = 1;
    for (let k = 0; k < found.length; k++) {
      const n = found[k], x = n % nx, y = Math.floor(n / nx) % ny, z = Math.floor(n / (nx * ny));
      for (let c = Math.max(z - 1, 0); c <= Math.min(z + 1, nz - 1); c++)
        for (let b = Math.max(y - 1, 0); b <= Math.min(y + 1, ny - 1); b++)
          for (let a = Math.max(x - 1, 0); a <= Math.min(x + 1, nx - 1); a++) {
            const other = a + nx * (b + ny * c);
            if (seen[other] || !holds(other)) continue;
            seen[other] = 1;
            found.push(other);
          }
    }
    return found;
  }

  lesionAt(n, seen) {
    const bitmap = this.bitmap;
    return bitmap[n] ? this.flood([n], (other) => bitmap[other] > 0, seen) : [];
  }

  lesions() {
    const bitmap = this.bitmap, seen = new Uint8Array(bitmap.length), found = [];
    for (let n = 0; n < seen.length; n++) if (bitmap[n] && !seen[n]) found.push(this.lesionAt(n, seen));
    return found;
  }

  // End a change: each lesion gets one class as a whole, that of most of its voxels, and the change can be undone.
  settle() {
    const lesions = this.lesions(), { bitmap, last } = this, where = [];
    for (const lesion of lesions) {
      const main = lesion.filter((n) => bitmap[n] === 1).length;
      if (main && main < lesion.length) this.fill(lesion, 2 * main >= lesion.length ? 1 : 2);
    }
    for (let n = 0; n < last.length; n++) if (bitmap[n] !== last[n]) where.push(n);
    const change = { where, before: where.map((n) => last[n]), whole: this.lastWhole };
    if (where.length || this.whole !== this.lastWhole) this.past.push(change);
    for (const n of where) last[n] = bitmap[n];
    this.lastWhole = this.whole;
    this.show(lesions);
  }

  undo() {
    const change = this.past.pop();
    if (!change) return;
    change.where.forEach((n, k) => { this.bitmap[n] = this.last[n] = change.before[k]; });
    this.whole = this.lastWhole = change.whole;
    this.chosen = null;
    this.show();
  }

  fill(voxels, label) {
    const bitmap = this.bitmap;
    for (const n of voxels) bitmap[n] = label;
  }

  show(lesions = this.lesions()) {
    this.found = lesions;
    this.viewer.refreshDrawing(true);
    this.onChange();
  }

  use(tool, label, isFilled) {
    this.tool = tool;
    this.chosen = null;
    const isPen = tool === "pen" || tool === "eraser";
    this.viewer.setDrawingEnabled(isPen);
    if (isPen) this.viewer.setPenValue(tool === "pen" ? label : 0, isFilled);
  }

  // Do what the current tool does with the voxel at the crosshair; return what to tell the user.
  click(label) {
    const [x, y, z] = this.viewer.frac2vox(this.viewer.scene.crosshairPos);
    const n = x + this.size[0] * (y + this.size[1] * z), lesion = this.lesionAt(n);
    if (this.tool === "grow") return this.choose(n, lesion, label);
    if (!lesion.length) return "There is no lesion here.";
    this.fill(lesion, this.tool === "delete" ? 0 : 3 - this.bitmap[n]);
    this.settle();
    return this.tool === "delete" ? "Deleted." : `Now ${this.bitmap[n] === 1 ? "main" : "sub"}.`;
  }

  // Choose a lesion for `grow`; where there is none, add the voxels around that have the probability of the slider.
  choose(n, lesion, label) {
    if (!lesion.length && this.percent[n] < 2) return "The probability of lesion is below 2 % here: use the pen.";
    if (!lesion.length) {
      this.threshold = Math.min(this.threshold, this.percent[n]);
      lesion = this.flood([n], (other) => !this.bitmap[other] && this.percent[other] >= this.threshold);
      this.fill(lesion, label);
      this.settle();
      lesion = this.lesionAt(n);
    } else {
      this.threshold = lesion.map((voxel) => this.percent[voxel]).sort((one, other) => one - other)[Math.floor(lesion.length / 20)];
    }
    this.chosen = { lesion, label: this.bitmap[n], start: this.threshold, before: this.bitmap.slice() };
    return "Move the slider: left grows this lesion, right shrinks it.";
  }

  // Grow or shrink the chosen lesion to the voxels of at least this probability that are connected to it.
  // Other lesions stay; a lesion that the chosen one grows up to becomes part of it. `settle` ends the change.
  grow(threshold) {
    this.threshold = threshold;
    if (!this.chosen) return;
    const { lesion, label, start, before } = this.chosen, isHigh = (n) => this.percent[n] >= threshold;
    this.bitmap.set(before);
    if (threshold < start) this.fill(this.flood(lesion, (n) => !before[n] && isHigh(n)), label);
    else if (threshold > start) this.fill(lesion.filter((n) => !isHigh(n)), 0);
    this.viewer.refreshDrawing(true);
  }
}
