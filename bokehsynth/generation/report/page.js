"use strict";
(() => {
  const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  // Counts of a map: zlib, differences to the left (first column: upwards), all high bytes, then all low ones.
  async function unpack(text, width, height) {
    const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
    const planes = new Uint8Array(await new Response(stream).arrayBuffer());
    const size = width * height, counts = new Uint16Array(size);
    for (let i = 0; i < size; i++) {
      const before = i % width ? counts[i - 1] : i ? counts[i - width] : 0;
      counts[i] = before + (planes[i] << 8 | planes[size + i]);
    }
    return counts;
  }

  function paint(canvas, counts, largest, colors) {
    const context = canvas.getContext("2d"), picture = context.createImageData(canvas.width, canvas.height);
    for (let i = 0; i < counts.length; i++) {
      const level = 3 * Math.round(255 * Math.min(1, counts[i] / largest));
      picture.data.set([colors[level], colors[level + 1], colors[level + 2], 255], 4 * i);
    }
    context.putImageData(picture, 0, 0);
  }

  class Sample {
    constructor(article) {
      this.article = article;
      this.size = [Number(article.dataset.width), Number(article.dataset.height)];
      this.output = article.querySelector(".readout");
      this.hint = this.output.textContent;
      this.images = [...article.querySelectorAll(".stack img")];
      this.maps = [...article.querySelectorAll("[data-counts]")].map((canvas) => ({
        canvas, name: canvas.dataset.name, scale: Number(canvas.dataset.scale), unit: canvas.dataset.unit,
        digits: Number(canvas.dataset.digits), counts: null,
      }));
      this.at = [0.5, 0.5];
      if (this.images.length > 1) this.slider();
      this.pointer();
    }

    async decode() {
      for (const map of this.maps) {
        const { canvas } = map;
        map.counts = await unpack(canvas.dataset.counts, canvas.width, canvas.height);
        paint(canvas, map.counts, Number(canvas.dataset.largest) / map.scale, bytesOf(document.getElementById("report").dataset[map.name]));
        canvas.removeAttribute("data-counts");
      }
      this.article.dataset.ready = "";
    }

    // 0 is the first picture, 100 the second, 200 the third; in between the later one comes in from the left.
    slider() {
      const input = this.article.querySelector("input[type=range]"), cut = this.article.querySelector(".cut");
      const [left, right] = this.article.querySelectorAll(".tag");
      const show = () => {
        const value = Number(input.value), last = this.images.length - 1;
        const first = Math.min(Math.floor(value / 100), last), share = value - 100 * first;
        this.images.forEach((image, place) => {
          image.hidden = place > first + (share > 0 ? 1 : 0);
          image.style.clipPath = place === first + 1 ? `inset(0 ${100 - share}% 0 0)` : "none";
        });
        cut.hidden = left.hidden = share === 0;
        cut.style.left = `${share}%`;
        right.textContent = this.images[first].alt;
        left.textContent = share > 0 ? this.images[first + 1].alt : "";
        input.setAttribute("aria-valuetext", share > 0 ? `${left.textContent} left of ${right.textContent}, ${share} %` : right.textContent);
      };
      input.addEventListener("input", show);
      this.article.querySelectorAll(".stops button").forEach((button, place) => {
        button.addEventListener("click", () => { input.value = 100 * place; show(); });
      });
      const stack = this.article.querySelector(".stack");
      const drag = (event) => {
        const box = stack.getBoundingClientRect(), share = (event.clientX - box.left) / box.width;
        const first = Math.min(Math.floor(Number(input.value) / 100), this.images.length - 2);
        input.value = Math.round(100 * (first + Math.min(0.99, Math.max(0.01, share))));
        show();
      };
      stack.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        stack.setPointerCapture(event.pointerId);
        drag(event);
      });
      stack.addEventListener("pointermove", (event) => { if (stack.hasPointerCapture(event.pointerId)) drag(event); });
      input.disabled = false;
      show();
    }

    pointer() {
      this.panes = [...this.article.querySelectorAll(".stack, .pane")];
      for (const pane of this.panes) {
        pane.addEventListener("pointermove", (event) => {
          const box = pane.getBoundingClientRect();
          this.read((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
        });
        pane.addEventListener("pointerleave", () => { if (document.activeElement?.closest(".pane") !== pane) this.rest(); });
      }
      for (const map of this.maps) {
        const { canvas } = map, keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
        canvas.addEventListener("focus", () => this.read(...this.at));
        canvas.addEventListener("blur", () => this.rest());
        canvas.addEventListener("keydown", (event) => {
          const way = keys[event.key];
          if (!way || event.ctrlKey || event.altKey || event.metaKey) return;
          event.preventDefault();
          const far = event.shiftKey ? 10 : 1;
          this.read(this.at[0] + far * way[0] / canvas.width, this.at[1] + far * way[1] / canvas.height);
        });
      }
    }

    // The maps hold every pixel, or the middle one of each of `width` even parts of a row.
    read(across, down) {
      if (!this.maps.length || !this.maps.every((map) => map.counts)) return;
      const { width, height } = this.maps[0].canvas, [wide, high] = this.size;
      const column = Math.min(width - 1, Math.max(0, Math.floor(across * width)));
      const row = Math.min(height - 1, Math.max(0, Math.floor(down * height)));
      this.at = [(column + 0.5) / width, (row + 0.5) / height];
      const x = Math.floor((2 * column + 1) * wide / (2 * width)), y = Math.floor((2 * row + 1) * high / (2 * height));
      const parts = [["at", `${x}, ${y}`]];
      for (const map of this.maps) {
        const value = Math.fround(map.counts[row * width + column] * Math.fround(map.scale));
        parts.push([map.canvas.dataset.title, `${value.toFixed(map.digits)}${map.unit}`]);
        if (map.name === "disparity" && this.article.dataset.near) {
          const metres = Number(this.article.dataset.near) / value;
          parts.push(["distance", Number.isFinite(metres) ? `${metres.toPrecision(3)} m` : "infinite"]);
        }
      }
      this.output.replaceChildren(...parts.flatMap(([name, value], place) => {
        const strong = document.createElement("b");
        strong.textContent = value;
        return [`${place ? " · " : ""}${name} `, strong];
      }));
      for (const pane of this.panes) {
        const mark = pane.querySelector(".mark");
        mark.hidden = false;
        mark.style.left = `${100 * this.at[0]}%`;
        mark.style.top = `${100 * this.at[1]}%`;
      }
    }

    rest() {
      this.output.textContent = this.hint;
      for (const pane of this.panes) pane.querySelector(".mark").hidden = true;
    }
  }

  const samples = new Map([...document.querySelectorAll(".sample")].map((article) => [article, new Sample(article)]));
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) { seen.unobserve(target); samples.get(target).decode(); }
    }
  }, { rootMargin: "600px" });
  samples.forEach((_, article) => seen.observe(article));
})();
