/* The viewer of a case's page: NiiVue draws the images, this file ties it to the page's controls. */
"use strict";

(() => {
  const app = document.getElementById("viewer-app");
  if (!app || app.dataset.state !== "waiting") return;
  const told = JSON.parse(document.getElementById("viewer-data").textContent);
  const [status, stage, canvas, values, controls] = ["status", "stage", "canvas", "values", "controls"].map((name) =>
    document.getElementById(`viewer-${name}`),
  );
  const CLEAR_BELOW_MIN = 2; // of NiiVue's COLORMAP_TYPE: colors run from 0, and what lies below cal_min is not drawn
  const images = new Map(); // by layer name, and "ct"
  const due = { ct: false, layers: false }; // what the next frame has to blend again
  let nv = null;
  let place = -1;

  const say = (text, state = app.dataset.state) => {
    status.textContent = text;
    status.hidden = text === "";
    app.dataset.state = state;
  };
  const fail = (text) => say(text, "failed");

  const loadLibrary = () =>
    new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `${told.assets}/${told.library}`;
      script.onload = () => resolve(globalThis.niivue);
      script.onerror = () => reject(new Error(`${told.library} cannot be loaded; make the report again`));
      document.head.append(script);
    });

  const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

  async function fetchFile(file, title) {
    const answer = await fetch(file);
    if (!answer.ok) throw new Error(`${file} cannot be read (${answer.status}); make the report again`);
    const total = Number(answer.headers.get("Content-Length"));
    const parts = [];
    let bytes = 0;
    for (const reader = answer.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      bytes += value.length;
      say(`Loading ${title}: ${megabytes(bytes)}${total ? ` of ${megabytes(total)}` : ""} MB`, "loading");
    }
    say(`Drawing ${title} …`, "loading");
    return new Blob(parts).arrayBuffer();
  }

  async function loadImage(file, title, options) {
    const url = await fetchFile(file, title);
    return niivue.NVImage.loadFromUrl({ url, name: file, colorbarVisible: false, ...options });
  }

  /* Red, green and blue of #RRGGBB, as NiiVue wants them. */
  const channelsOf = (colors) => {
    const [R, G, B] = [1, 3, 5].map((at) => colors.map((color) => parseInt(color.slice(at, at + 2), 16)));
    return { R, G, B };
  };

  /* A value of 0 is clear. NiiVue knows no other opacity than all or nothing of what lies above another map. */
  const colorsOf = (layer) => {
    const colors = layer.colors.length > 1 ? layer.colors : [layer.color, layer.color];
    return { ...channelsOf(colors), A: colors.map((_, i) => (i ? 255 : 0)), I: layer.stops || [0, 255] };
  };

  const labelsOf = (layer) => {
    const rows = [{ id: 0, color: "#000000", title: "none" }, ...layer.labels];
    return {
      ...channelsOf(rows.map((row) => row.color)),
      A: rows.map((row) => (row.id ? 255 : 0)),
      I: rows.map((row) => row.id),
      labels: rows.map((row) => row.title),
    };
  };

  async function addLayer(layer) {
    const colormap = `cascade-${layer.name}`;
    nv.addColormap(colormap, colorsOf(layer));
    const limits = layer.kind === "measure" ? { cal_min: layer.clear_below, cal_max: layer.top } : { cal_min: 0, cal_max: 1 };
    const image = await loadImage(layer.file, layer.title, { colormap, opacity: opacityOf(layer.name), ...limits });
    if (layer.kind === "measure") image.colormapType = CLEAR_BELOW_MIN;
    if (layer.kind === "labels" && layer.labels.length) image.setColormapLabel(labelsOf(layer));
    images.set(layer.name, image);
    nv.overlays = told.layers.map((one) => images.get(one.name)).filter(Boolean);
    nv.volumes = [nv.volumes[0], ...nv.overlays];
    due.layers = true;
    blend();
    nv.createOnLocationChange();
  }

  const boxOf = (name) => controls.querySelector(`[name="layer"][value="${name}"]`);
  const rangeOf = (name) => controls.querySelector(`[name="opacity"][data-layer="${name}"]`);
  const opacityOf = (name) => (boxOf(name).checked ? Number(rangeOf(name).value) : 0);

  async function showLayer(name) {
    const layer = told.layers.find((one) => one.name === name);
    if (images.has(name)) {
      images.get(name).opacity = opacityOf(name);
      blendSoon("layers");
      return;
    }
    if (!boxOf(name).checked) return;
    boxOf(name).disabled = true; // until it is there: a second click must not load it twice
    try {
      await addLayer(layer);
      say("", "ready");
    } catch (error) {
      boxOf(name).checked = false;
      say(`${layer.title} cannot be shown: ${error.message}`, "ready");
    } finally {
      boxOf(name).disabled = false;
    }
  }

  /* NiiVue follows each change of the CT by gradients for 3D rendering, which slices never show and which take longer
     than all else: nothing is left for them to draw. */
  function leaveOutGradients() {
    const refresh = nv.refreshLayers.bind(nv);
    nv.refreshLayers = (image, number) => {
      refresh(image, number);
      nv.gl.disable(nv.gl.SCISSOR_TEST);
      if (image === images.get("ct")) showWindow(image); // it may have been dragged
    };
    for (const shader of [nv.blurShader, nv.sobelFirstOrderShader]) {
      const use = shader.use.bind(shader);
      shader.use = (gl) => {
        use(gl);
        gl.enable(gl.SCISSOR_TEST);
        gl.scissor(0, 0, 0, 0);
      };
    }
  }

  /* Blending goes through all voxels: at most once a frame, and the CT only where its window changed. */
  function blendSoon(what) {
    const waiting = due.ct || due.layers;
    due[what] = true;
    app.dataset.state = "drawing";
    if (!waiting) requestAnimationFrame(blend);
  }

  function blend() {
    if (due.ct) nv.updateGLVolume();
    else nv.volumes.forEach((image, i) => i > 0 && nv.refreshLayers(image, i));
    due.ct = due.layers = false;
    nv.drawScene();
    app.dataset.state = "ready";
  }

  function setWindow(level, width) {
    if (!Number.isFinite(level) || !(width > 0) || !images.has("ct")) return;
    const ct = images.get("ct");
    [ct.cal_min, ct.cal_max] = [level - width / 2, level + width / 2];
    blendSoon("ct");
  }

  function showWindow(ct) {
    controls.elements.level.value = Math.round((ct.cal_min + ct.cal_max) / 2);
    controls.elements.width.value = Math.round(ct.cal_max - ct.cal_min);
  }

  const shape = () => nv.volumes[0].dimsRAS.slice(1, 4);

  function setSlice(axis, index) {
    const crosshair = [...nv.scene.crosshairPos];
    crosshair[axis] = (index + 0.5) / shape()[axis];
    moveTo(crosshair);
  }

  function moveTo(fractions) {
    nv.scene.crosshairPos = fractions;
    nv.createOnLocationChange();
    nv.drawScene();
  }

  function goTo(number) {
    place = (number + told.places.length) % told.places.length;
    const [x, y, z] = told.places[place].lps_mm;
    controls.elements.place.value = String(place);
    moveTo([...nv.mm2frac([-x, -y, z], 0, true)]); // NiiVue's x grows to the right, its y to the front
  }

  const plain = (number, digits) => number.toFixed(digits).replace("-", "−");

  function valueOf(name, value) {
    const layer = told.layers.find((one) => one.name === name);
    if (!layer) return `${plain(value, 0)} HU`;
    if (layer.kind === "measure") return plain(value, 3);
    const row = (layer.labels || []).find((one) => one.id === value);
    return row ? row.title : value > 0 ? "yes" : "no";
  }

  function showWhere(where) {
    const [right, front, up] = where.mm;
    const rows = [["x, y, z (LPS)", `${[-right, -front, up].map((mm) => plain(mm, 1)).join(", ")} mm`]];
    for (const [name, image] of images) {
      const found = where.values.find((one) => one.id === image.id);
      const layer = told.layers.find((one) => one.name === name);
      if (found) rows.push([layer ? layer.title : "CT", valueOf(name, found.value)]);
    }
    values.replaceChildren(
      ...rows.map(([title, text]) => {
        const row = document.createElement("div");
        const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
        [dt.textContent, dd.textContent] = [title, text];
        row.append(dt, dd);
        return row;
      }),
    );
    const sizes = shape();
    for (const range of controls.querySelectorAll('[name="slice"]')) {
      const axis = Number(range.dataset.axis);
      const index = Math.min(sizes[axis] - 1, Math.max(0, Math.floor(where.frac[axis] * sizes[axis])));
      [range.max, range.value] = [sizes[axis] - 1, index];
      range.nextElementSibling.textContent = `${index + 1} / ${sizes[axis]}`;
    }
  }

  const step = (axis, by) => nv.moveCrosshairInVox(...[0, 1, 2].map((one) => (one === axis ? by : 0)));

  function onKey(event) {
    if (["Tab", "Shift", "Escape"].includes(event.key) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.stopImmediatePropagation(); // NiiVue has keys of its own for what is not shown here
    if (event.type !== "keydown") return;
    const across = { 1: 1, 2: 0 }[controls.elements.plane.value] ?? 2;
    const others = [0, 1, 2].filter((axis) => axis !== across);
    const actions = {
      ArrowUp: () => step(across, 1),
      ArrowDown: () => step(across, -1),
      ArrowRight: () => step(others[0], 1),
      ArrowLeft: () => step(others[0], -1),
      PageUp: () => step(others[1], 1),
      PageDown: () => step(others[1], -1),
      n: () => told.places.length && goTo(place + 1),
    };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  function onInput({ target }) {
    if (target.name === "slice") setSlice(Number(target.dataset.axis), Number(target.value));
    if (target.name === "layer") showLayer(target.value);
    if (target.name === "opacity") showLayer(target.dataset.layer);
    if (target.name === "plane") nv.setSliceType(Number(target.value));
    if (target.name === "place") goTo(Number(target.value));
    const { level, width } = controls.elements;
    if (target === level || target === width) setWindow(level.valueAsNumber, width.valueAsNumber);
  }

  function onClick({ target }) {
    if (target.name === "go") goTo(Number(target.value));
    if (target.name === "next") goTo(place + 1);
    if (target.name === "window") {
      const { level, width } = controls.elements;
      [level.value, width.value] = [target.dataset.level, target.dataset.width];
      setWindow(level.valueAsNumber, width.valueAsNumber);
    }
  }

  function listen() {
    for (const kind of ["keydown", "keyup"]) canvas.addEventListener(kind, onKey, { capture: true });
    canvas.addEventListener("webglcontextlost", () => fail("The graphics memory does not hold these images; close other pages and load this one again."));
    controls.addEventListener("input", onInput);
    controls.addEventListener("click", onClick);
    controls.addEventListener("submit", (event) => event.preventDefault());
  }

  async function begin() {
    say("Loading the viewer …", "loading");
    const library = await loadLibrary();
    stage.hidden = values.hidden = false;
    nv = new library.Niivue({
      backColor: [0, 0, 0, 1],
      crosshairColor: [1, 1, 1, 0.7],
      crosshairWidth: 1,
      crosshairWidthUnit: "mm",
      crosshairGap: 12,
      fontColor: [1, 1, 1, 1],
      multiplanarPadPixels: 12,
      dragAndDropEnabled: false,
      dragMode: library.DRAG_MODE.windowing,
      isRadiologicalConvention: true,
      sagittalNoseLeft: true,
      showAllOrientationMarkers: true,
      multiplanarShowRender: library.SHOW_RENDER.NEVER,
      loadingText: "",
      logLevel: "error",
    });
    listen(); // before NiiVue does: keys come here first
    await nv.attachToCanvas(canvas, false);
    leaveOutGradients();
    const [level, width] = [told.windows[0].level_hu, told.windows[0].width_hu];
    const options = { colormap: "gray", cal_min: level - width / 2, cal_max: level + width / 2 };
    const black = { colormap: "cascade-black", cal_min: 0, cal_max: 1 };
    nv.addColormap(black.colormap, { R: [0, 0], G: [0, 0], B: [0, 0], A: [0, 255], I: [0, 255] });
    const ct = await loadImage(told.ct || told.layers[0].file, told.ct ? "the CT" : "the maps", told.ct ? options : black);
    if (told.ct) images.set("ct", ct);
    nv.addVolume(ct);
    nv.onLocationChange = showWhere;
    nv.setSliceType(library.SLICE_TYPE.MULTIPLANAR);
    controls.hidden = false;
    if (told.places.length) goTo(0);
    else nv.createOnLocationChange();
    for (const layer of told.layers) {
      if (boxOf(layer.name).checked) await showLayer(layer.name);
    }
    if (app.dataset.state === "loading") say("", "ready");
  }

  function beginWhenSeen() {
    if (location.protocol === "file:") {
      return fail("Opened as a file, this page may not read its images. Run nnc-report OUT --serve, where OUT is the folder of the results, and open the address it prints.");
    }
    if (!document.createElement("canvas").getContext("webgl2")) {
      return fail("This browser has no WebGL 2, which the viewer draws with: turn on hardware acceleration, or take another browser.");
    }
    say("The viewer begins when it is seen.");
    const observer = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      begin().catch((error) => fail(`The viewer cannot begin: ${error.message}`));
    });
    observer.observe(app);
  }

  beginWhenSeen();
})();
