// Arrays in the page: base64 of deflated numbers (views/scenes/encode.py). Each is read once, when it is first shown.
const TYPES = { u1: Uint8Array, u2: Uint16Array, f4: Float32Array };
const inflated = new WeakMap();

async function unpacked(entry) {
  if (!inflated.has(entry)) {
    const bytes = Uint8Array.from(atob(entry.data), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    inflated.set(entry, new Response(stream).arrayBuffer().then((buffer) => new TYPES[entry.type](buffer)));
  }
  return inflated.get(entry);
}

// The map at some places of the axes before the last: numbers by cell.
async function mapAt(packed, places) {
  const [levels, tops] = await Promise.all([unpacked(packed.levels), unpacked(packed.tops)]);
  const shape = packed.levels.shape;
  const index = places.reduce((at, place, axis) => at * shape[axis] + place, 0);
  const cells = shape[shape.length - 1];
  const most = 2 ** packed.bits - 1;
  const values = new Float64Array(cells);
  for (let i = 0; i < cells; i += 1) {
    values[i] = tops[index] * (levels[index * cells + i] / most) ** packed.gamma;
  }
  return values;
}

// Colours of an image: red, green, blue of every cell.
async function coloursAt(packed, image) {
  const all = await unpacked(packed);
  const size = packed.shape[1] * packed.shape[2] * 3;
  return all.subarray(image * size, (image + 1) * size);
}
