// Plain rays: for tiles in which layers change order, height fields and openings that change over the field; what
// means miss where layers vary together (`cpu/control_variate.py` says why); and, over all layers, the oracle of
// everything else.
#pragma once
#include "height_field.cuh"
#include "scene.cuh"

const int GROUP = 64;                   // rays summed before they are added to the whole: sums of thousands lose less

// Over rays: light, what no layer stopped, and weights. The latter two per set of weights: one, or one per channel.
struct Sums {
    float light[3], through[3], passed[3];
};

DEVICE void clear(Sums& sums) {
#pragma unroll
    for (int c = 0; c < 3; c++) sums.light[c] = sums.through[c] = sums.passed[c] = 0;
}

DEVICE void add(Sums& whole, const Sums& part) {
#pragma unroll
    for (int c = 0; c < 3; c++) {
        whole.light[c] += part.light[c];
        whole.through[c] += part.through[c];
        whole.passed[c] += part.passed[c];
    }
}

// One pixel and what is the same for all of its rays.
struct Pixel {
    int x, y, count;
    unsigned char order[MAX_LAYERS];
    float delta[MAX_LAYERS];            // d(p) - d_f of every layer of `order`
};

// Where a ray met the layers of a pixel.
struct Hits {
    float delta[MAX_LAYERS];            // d(p') - d_f
    unsigned char place[MAX_LAYERS];    // into `order`, nearest first
};

DEVICE bool is_nearer(float mine, int layer, float other, int other_layer) {
    return mine > other || (mine == other && layer < other_layer);
}

DEVICE void sort_hits(const Pixel& pixel, Hits& hits) {
    for (int k = 0; k < pixel.count; k++) {
        int place = k, layer = pixel.order[k];
        for (; place > 0; place--) {
            int other = hits.place[place - 1];
            if (!is_nearer(hits.delta[k], layer, hits.delta[other], pixel.order[other])) break;
            hits.place[place] = hits.place[place - 1];
        }
        hits.place[place] = (unsigned char)k;
    }
}

// d(p') - d_f of layer k of the pixel on the ray through lens point (sx, sy).
DEVICE float intersect(const Scene& scene, const Pixel& pixel, int k, float sx, float sy) {
    const Layer& layer = scene.layers[pixel.order[k]];
    float K = (float)scene.blur;
    if (layer.values) return intersect_height_field(scene, layer, pixel.x, pixel.y, K * sx, K * sy);
    if (layer.gx == 0 && layer.gy == 0) return pixel.delta[k];
    return pixel.delta[k] / (1.0f - K * ((float)layer.gx * sx + (float)layer.gy * sy));
}

// What a pinhole sees; whether all of it is in focus.
DEVICE bool pinhole(const Scene& scene, const Pixel& pixel, float* light, float* through) {
    Hits hits;
    for (int k = 0; k < pixel.count; k++) hits.delta[k] = pixel.delta[k];
    sort_hits(pixel, hits);
    float left = 1;
    bool sharp = true;
    light[0] = light[1] = light[2] = 0;
    for (int n = 0; n < pixel.count; n++) {
        int k = hits.place[n];
        Texel t = texel_at(scene, scene.layers[pixel.order[k]], pixel.x, pixel.y);
        sharp = sharp && (pixel.delta[k] == 0 || left * t.a == 0);
        light[0] += t.r * left;
        light[1] += t.g * left;
        light[2] += t.b * left;
        left *= 1.0f - t.a;
    }
    through[0] = through[1] = through[2] = left;
    return sharp;
}

// Sums of a pixel's layers, each as if it were alone, over the same rays: for what varies together.
struct Means {
    float light[MAX_LAYERS][3], alpha[MAX_LAYERS][3];
};

// Carry the ray through (sx, sy), of weights w, through a pixel's layers. Returns how much blurred layers stopped.
DEVICE float trace_ray(const Scene& scene, const Pixel& pixel, unsigned int opaque, bool sorted, float sx, float sy,
                   const float* w, Sums& sums, Means* means) {
    Hits hits;
    if (!sorted) {
        for (int k = 0; k < pixel.count; k++) hits.delta[k] = intersect(scene, pixel, k, sx, sy);
        sort_hits(pixel, hits);
    }
    float left = 1, touched = 0, K = (float)scene.blur;
    for (int n = 0; n < pixel.count; n++) {
        int k = sorted ? n : hits.place[n], m = pixel.order[k];
        const Layer& layer = scene.layers[m];
        float delta = sorted ? intersect(scene, pixel, k, sx, sy) : hits.delta[k];
        Texel t = delta == 0 ? texel_at(scene, layer, pixel.x, pixel.y)
                             : look_up(scene, layer, pixel.x, pixel.y, K * sx * delta, K * sy * delta);
        float light[3] = {w[0] * t.r, w[1] * t.g, w[2] * t.b};
#pragma unroll
        for (int c = 0; c < 3; c++) {
            sums.light[c] = fmaf(left, light[c], sums.light[c]);
            if (!means) continue;
            means->light[k][c] += light[c];
            if (c < scene.sets) means->alpha[k][c] = fmaf(w[c], t.a, means->alpha[k][c]);
        }
        if (delta != 0) touched = fmaxf(touched, left * t.a);
        left = opaque >> m & 1 ? 0.0f : left * (1.0f - t.a);
        if (left == 0 && (!means || opaque >> m & 1)) break;
    }
#pragma unroll
    for (int c = 0; c < 3; c++) {
        if (c >= scene.sets) continue;
        sums.through[c] = fmaf(w[c], left, sums.through[c]);
        sums.passed[c] += w[c];
    }
    return touched;
}

DEVICE bool pupil_passes(const Scene& scene, int x, int y, float sx, float sy) {
    if (!scene.pupils) return true;
    const float* centre = scene.pupils + 2 * ((size_t)y * scene.width + x);
    float dx = centre[0] - sx, dy = centre[1] - sy;
    return dx * dx + dy * dy <= scene.pupil_radius * scene.pupil_radius;
}

// Rays start .. stop - 1 of a pixel. Returns how much blurred layers stopped at most.
DEVICE float sum_rays(const Scene& scene, const Pixel& pixel, unsigned int opaque, bool sorted, int start, int stop,
                   bool moving, Sums& whole, Means* means) {
    Sums part;
    float touched = 0, w[3] = {1, 1, 1};
    clear(whole);
    clear(part);
    for (int i = start; i < stop; i++) {
        float sx = scene.points[2 * i], sy = scene.points[2 * i + 1];
        if (!moving || pupil_passes(scene, pixel.x, pixel.y, sx, sy)) {
            for (int c = 0; c < 3 && moving; c++) w[c] = scene.weights[(c < scene.sets ? c : 0) * scene.rays + i];
            touched = fmaxf(touched, trace_ray(scene, pixel, opaque, sorted, sx, sy, w, part, means));
        }
        if ((i - start) % GROUP == GROUP - 1 || i == stop - 1) {
            add(whole, part);
            clear(part);
        }
    }
    for (int c = scene.sets; c < 3; c++) {
        whole.through[c] = whole.through[0];
        whole.passed[c] = whole.passed[0];
    }
    return touched;
}

// A pixel by plain rays alone. One that saw nothing but layers in focus gets what a pinhole sees, to the bit.
DEVICE void trace_plain(const Scene& scene, const Pixel& pixel, unsigned int opaque, bool sorted, int start, int stop,
                          bool moving) {
    Sums sums;
    float light[3], through[3];
    float touched = sum_rays(scene, pixel, opaque, sorted, start, stop, moving, sums, 0);
    int channels_passed = 0;
    for (int c = 0; c < 3; c++) {
        bool passes = (scene.channels_passed >> c & 1) && sums.passed[c] > 0;
        channels_passed |= passes ? 1 << c : 0;
    }
    if ((moving && touched > 0) || !pinhole(scene, pixel, light, through)) {
        for (int c = 0; c < 3; c++) {
            light[c] = channels_passed >> c & 1 ? sums.light[c] / sums.passed[c] : 0;
            through[c] = channels_passed >> c & 1 ? sums.through[c] / sums.passed[c] : 1;
        }
    }
    write_pixel(scene, pixel.x, pixel.y, light, through, channels_passed);
}

// A pixel of a tile whose layers vary together: the means' composite plus what it misses, from one set of rays:
// mean(sum_l T_l c_l) - over(mean(c_0), mean(c_1), ...). The same set for both, so its own errors cancel.
DEVICE void add_control_variate(const Scene& scene, const Pixel& pixel, const Tile& tile) {
    Sums sums;
    Means means;
    for (int k = 0; k < pixel.count; k++)
        for (int c = 0; c < 3; c++) means.light[k][c] = means.alpha[k][c] = 0;
    float touched = sum_rays(scene, pixel, tile.opaque, true, tile.start, tile.stop, true, sums, &means);
    size_t plane = (size_t)scene.height * scene.width, at = (size_t)pixel.y * scene.width + pixel.x;
    float light[3], through[3];
    for (int c = 0; c < 3; c++) {
        light[c] = scene.base[c * plane + at];
        through[c] = scene.base[(3 + c) * plane + at];
        if (touched == 0 || sums.passed[c] <= 0) continue;
        float over = 0, left = 1;
        int set = c < scene.sets ? c : 0;
        for (int k = 0; k < pixel.count; k++) {
            over += means.light[k][c] / sums.passed[c] * left;
            left *= 1.0f - means.alpha[k][set] / sums.passed[c];
            if (tile.opaque >> pixel.order[k] & 1) {
                left = 0;
                break;
            }
        }
        light[c] += sums.light[c] / sums.passed[c] - over;
        through[c] += sums.through[c] / sums.passed[c] - left;
    }
    write_pixel(scene, pixel.x, pixel.y, light, through, scene.channels_passed);
}
