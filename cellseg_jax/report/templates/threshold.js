// The slider: masks and scores of the shown images at any threshold.
// IMAGES: shown pixels per pixel of each image. LEAST: pixels of the smallest
// cell. COLOURS: of the kinds of pixels.
const NOT_VALID = 2 ** 24 - 1;

async function pixelsOf(id) {
  const image = document.getElementById(id);
  await image.decode();
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext('2d', {willReadFrequently: true});
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height).data;
}

async function read(number) {
  const [picture, probability, coded] = await Promise.all(
    ['picture', 'probability', 'labels'].map((n) => pixelsOf(`${n}-${number}`)));
  const canvas = document.getElementById(`canvas-${number}`);
  const count = canvas.width * canvas.height;
  const grey = new Uint8Array(count), cell = new Uint8Array(count);
  const labels = new Int32Array(count);
  const areas = new Map();
  for (let i = 0; i < count; i++) {
    grey[i] = picture[4 * i];
    cell[i] = probability[4 * i];
    labels[i] = coded[4 * i] + 256 * coded[4 * i + 1] + 65536 * coded[4 * i + 2];
    if (labels[i] && labels[i] !== NOT_VALID) {
      areas.set(labels[i], (areas.get(labels[i]) || 0) + 1);
    }
  }
  return {number, canvas, grey, cell, labels, areas,
    least: LEAST * IMAGES[number]};
}

// Numbers the pieces that hang together by their sides; small ones become 0.
function pieces(mask, width, least) {
  const found = new Int32Array(mask.length), areas = [0], todo = [];
  for (let start = 0; start < mask.length; start++) {
    if (!mask[start] || found[start]) continue;
    const name = areas.length, members = [];
    found[start] = name;
    todo.push(start);
    while (todo.length) {
      const at = todo.pop(), column = at % width;
      members.push(at);
      for (const next of [
        column > 0 ? at - 1 : -1, column < width - 1 ? at + 1 : -1,
        at - width, at + width]) {
        if (next >= 0 && next < mask.length && mask[next] && !found[next]) {
          found[next] = name;
          todo.push(next);
        }
      }
    }
    if (members.length < least) {
      for (const at of members) { found[at] = 0; mask[at] = 0; }
      areas.push(0);
    } else {
      areas.push(members.length);
    }
  }
  return {found, areas};
}

function measure(image, threshold) {
  const {cell, labels, canvas} = image;
  const mask = new Uint8Array(cell.length);
  for (let i = 0; i < cell.length; i++) {
    mask[i] = labels[i] !== NOT_VALID && cell[i] > 255 * threshold;
  }
  const {found, areas} = pieces(mask, canvas.width, image.least);
  const counts = {hit: 0, miss: 0, alarm: 0, rest: 0, matched: 0,
    labelled: image.areas.size, found: areas.filter((area) => area).length};
  const shared = new Map();
  for (let i = 0; i < cell.length; i++) {
    if (labels[i] === NOT_VALID) continue;
    if (labels[i]) {
      counts[mask[i] ? 'hit' : 'miss']++;
      if (mask[i]) {
        const pair = labels[i] * areas.length + found[i];
        shared.set(pair, (shared.get(pair) || 0) + 1);
      }
    } else {
      counts[mask[i] ? 'alarm' : 'rest']++;
    }
  }
  for (const [pair, both] of shared) {
    const piece = pair % areas.length, label = (pair - piece) / areas.length;
    const union = areas[piece] + image.areas.get(label) - both;
    if (both > 0.5 * union) counts.matched++;
  }
  return {mask, counts};
}

function draw(image, mask) {
  const {canvas, grey, labels} = image;
  const context = canvas.getContext('2d');
  const drawn = context.createImageData(canvas.width, canvas.height);
  const rgb = {};
  for (const kind of ['right', 'extra', 'missed']) {
    rgb[kind] = COLOURS[kind].match(/\d+/g).map(Number);
  }
  for (let i = 0; i < grey.length; i++) {
    const valid = labels[i] !== NOT_VALID;
    const cell = valid && labels[i];
    const tint = mask[i] ? rgb[cell ? 'right' : 'extra'] : cell ? rgb.missed : null;
    const light = valid ? grey[i] : 0.35 * grey[i];
    for (let c = 0; c < 3; c++) {
      drawn.data[4 * i + c] = tint ? 0.55 * light + 0.45 * tint[c] : light;
    }
    drawn.data[4 * i + 3] = 255;
  }
  context.putImageData(drawn, 0, 0);
}

function describe(counts) {
  const {hit, miss, alarm, rest, matched, labelled, found} = counts;
  const rate = (part, whole) => (whole ? part / whole : 0).toFixed(3);
  return `TPR ${rate(hit, hit + miss)}, FPR ${rate(alarm, alarm + rest)}, ` +
    `Dice ${rate(2 * hit, 2 * hit + miss + alarm)}; ${found} pieces, ` +
    `${labelled} labelled; F1 at IoU 0.5: ${rate(2 * matched, found + labelled)}`;
}

async function start() {
  const images = await Promise.all(IMAGES.map((_, number) => read(number)));
  const slider = document.getElementById('slide');
  function update() {
    const threshold = Number(slider.value), pooled = {};
    document.getElementById('slide-value').value = threshold.toFixed(2);
    for (const image of images) {
      const {mask, counts} = measure(image, threshold);
      draw(image, mask);
      document.getElementById(`scores-${image.number}`).textContent =
        describe(counts);
      for (const name in counts) {
        pooled[name] = (pooled[name] || 0) + counts[name];
      }
    }
    document.getElementById('pooled').textContent =
      `All ${images.length}: ${describe(pooled)}`;
    slider.dataset.shown = slider.value;
  }
  let waiting = false;
  slider.oninput = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; update(); });
  };
  update();
}

start();
