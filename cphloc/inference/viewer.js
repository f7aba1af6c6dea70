const scenes = JSON.parse(document.querySelector("#view-data").textContent);
const part = name => document.querySelector(`#view-${name}`);
const canvas = part("canvas");
const heat = {R: [90, 190, 255, 255], G: [0, 30, 130, 240], B: [140, 90, 0, 120], A: [0, 110, 200, 255], I: [0, 85, 170, 255]};

function bytes(text) {
  const raw = atob(text), found = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
  return found.buffer;
}

function colours(layer) {
  const table = {R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""]};
  for (const {number, name, colour} of layer.labels) {
    const at = k => parseInt(colour.slice(k, k + 2), 16);
    for (const [key, value] of [["R", at(1)], ["G", at(3)], ["B", at(5)], ["A", 255], ["I", number], ["labels", name]]) {
      table[key].push(value);
    }
  }
  return table;
}

const view = new Niivue({
  backColor: [0, 0, 0, 1], show3Dcrosshair: true, isColorbar: false, loadingText: "", dragAndDropEnabled: false,
  isAlphaClipDark: true, multiplanarForceRender: true, isResizeCanvas: false, logLevel: "error",
  crosshairWidth: 0.6, crosshairColor: [0.5, 0.6, 0.7, 0.6],
});

async function show(index) {
  while (view.volumes.length) view.removeVolume(view.volumes[view.volumes.length - 1]);
  const scene = scenes[index], named = document.createDocumentFragment();
  for (const layer of scene.layers) {
    const options = {url: `${layer.name}.nii.gz`, name: `${layer.name}.nii.gz`, buffer: bytes(layer.data)};
    if (layer.kind === "grey") Object.assign(options, {colormap: "gray", cal_min: layer.low, cal_max: layer.high});
    if (layer.kind === "heat") Object.assign(options, {colormap: "attention", cal_min: 0.2, cal_max: 1});
    const volume = await view.addVolumeFromUrl(options);
    if (layer.kind === "labels" && layer.labels.length) volume.setColormapLabel(colours(layer));
  }
  const layers = part("layers");
  layers.replaceChildren(layers.querySelector("legend"));
  scene.layers.forEach((layer, at) => {
    const label = document.createElement("label"), box = document.createElement("input");
    Object.assign(box, {type: "checkbox", checked: true, name: layer.name});
    box.addEventListener("change", opacities);
    label.append(box, ` ${layer.name}`);
    layers.append(label);
    for (const {name, colour} of layer.kind === "labels" && layer.name === "mask" ? layer.labels : []) {
      const square = document.createElement("span");
      square.className = "square";
      square.style.background = colour;
      named.append(square, ` ${name} `);
    }
  });
  part("legend").replaceChildren(named);
  part("low").value = Number(scene.layers[0].low.toPrecision(4));
  part("high").value = Number(scene.layers[0].high.toPrecision(4));
  opacities();
}

function opacities() {
  const boxes = part("layers").querySelectorAll("input"), strength = Number(part("opacity").value);
  view.volumes.forEach((volume, at) => view.setOpacity(at, boxes[at]?.checked ? (at ? strength : 1) : 0));
  view.updateGLVolume();
}

function windowed() {
  const scan = view.volumes[0], low = Number(part("low").value), high = Number(part("high").value);
  if (!scan || !(high > low)) return;
  Object.assign(scan, {cal_min: low, cal_max: high});
  view.updateGLVolume();
}

function planes() {
  view.setSliceType(part("kind").value === "turn" ? view.sliceTypeRender : view.sliceTypeMultiplanar);
}

try {
  await view.attachToCanvas(canvas);
  view.addColormap("attention", heat);
  planes();
  await show(0);
  part("case").addEventListener("change", event => show(Number(event.target.value)));
  part("kind").addEventListener("change", planes);
  part("opacity").addEventListener("input", opacities);
  for (const end of ["low", "high"]) part(end).addEventListener("input", windowed);
  canvas.dataset.ready = "yes";
} catch (error) {
  part("problem").textContent = `The 3-D view needs WebGL 2, which this browser does not offer (${error.message}).`;
}
