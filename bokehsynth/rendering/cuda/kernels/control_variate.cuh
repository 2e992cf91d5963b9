// What means miss where layers vary together, for tiles of few planes: `add_control_variate` of `rays.cuh` with the
// number of layers and of sets of weights known to the compiler, so that all sums stay in registers.
//
// A ray meets a frontal layer at one offset whatever the pixel: a block works those offsets out once, in shared memory,
// and a thread does a column of PIXELS pixels, for which PIXELS + 1 rows of two texels serve; one of a layer in focus,
// none where no texel that the tile may meet lets anything be seen. Of a tilted layer each pixel looks four texels up,
// where not all of the tile's offsets lie between the same ones.
//
// Light of the nearest layer reaches every pixel as if the layer were alone: nothing stops it, so its means miss nothing,
// and it is left out of both sums. Only how much the layer stops is looked up: 4 bytes of a texel instead of 16.
// `plan_tiles` sends tiles here whose lookups all lie on the canvas: nothing is clamped.
#pragma once
#include "scene.cuh"

const int STAGED_RAYS = 64;             // of which a block holds where they meet layers, at a time

enum Kind { EMPTY = 0, IN_FOCUS = 1, FRONTAL = 2, ALIKE = 3, TILTED = 4 };

// Where a ray meets a layer. FRONTAL: texel offset from the pixel, and the share of the next column and row. TILTED:
// offset in px per unit of delta. ALIKE: so is that, and all pixels of the tile meet the same texels: their offset.
struct alignas(16) Hit {
    float x, y;
    int offset, kind;
    float column, row;                  // px of `offset`
};

// Planes of a tile as a thread reads them.
template <int LAYERS> struct Planes {
    const float* alphas;                // of the nearest layer, at the thread's first pixel
    const Texel* texels[LAYERS];        // of the others, there
    float delta[LAYERS], slope[LAYERS]; // d(p) - d_f there, and what a line adds
};

template <int LAYERS, int SETS, int PIXELS> struct LayerSums {
    float light[LAYERS][PIXELS][3], alpha[LAYERS][PIXELS][SETS];  // of each layer alone; no light of the nearest
    float all[PIXELS][3], through[PIXELS][SETS], passed[SETS];    // of all together, what none stopped, and of weights
};

// Whether all texels are empty that the tile at (x0, y0) meets with offsets between (low, top) and (high, bottom).
DEVICE bool nothing_between(const Scene& scene, const Layer& layer, int x0, int y0, float low, float high, float top,
                            float bottom) {
    int columns = block_count(scene.canvas_width), lines = block_count(scene.canvas_height);
    int right = x0 + scene.margin + block_shift(scene.canvas_width);
    int down = y0 + scene.margin + block_shift(scene.canvas_height);
    int first = clamp((right + (int)floorf(low)) / BLOCK, 0, columns - 1);
    int last = clamp((right + TILE_W + (int)floorf(high)) / BLOCK, 0, columns - 1);
    int upper = clamp((down + (int)floorf(top)) / BLOCK, 0, lines - 1);
    int lower = clamp((down + ROWS + (int)floorf(bottom)) / BLOCK, 0, lines - 1);
    const float* most = layer.alphas + (size_t)columns * lines;
    for (int line = upper; line <= lower; line++)
        for (int column = first; column <= last; column++)
            if (most[(size_t)line * columns + column] > 0) return false;
    return true;
}

// What all rays of a tile have in common at a layer.
struct LayerInTile {
    const Layer* layer;
    float near, far, ex, ey;            // range of d(p) - d_f over the tile, and K g
    int kind;
    bool opaque;
};

DEVICE LayerInTile layer_in_tile(const Scene& scene, const Tile& tile, int m, int x0, int y0) {
    const Layer& layer = scene.layers[m];
    double near, far;
    plane_range(scene, layer, x0, y0, TILE_W, ROWS, &near, &far);
    bool frontal = layer.gx == 0 && layer.gy == 0;
    float ex = (float)(scene.blur * layer.gx), ey = (float)(scene.blur * layer.gy);
    int kind = !frontal ? TILTED : layer.d == 0 ? IN_FOCUS : FRONTAL;
    LayerInTile found = {&layer, (float)near, (float)far, ex, ey, kind, (tile.opaque >> m & 1) != 0};
    return found;
}

DEVICE Hit hit_of(const Scene& scene, const LayerInTile& at, int x0, int y0, int ray) {
    float sx = scene.points[2 * ray], sy = scene.points[2 * ray + 1], K = (float)scene.blur;
    float stretch = 1.0f / (1.0f - (at.ex * sx + at.ey * sy));
    Hit hit = {K * sx * stretch, K * sy * stretch, 0, at.kind, 0, 0};
    float x_near = hit.x * at.near, x_far = hit.x * at.far, y_near = hit.y * at.near, y_far = hit.y * at.far;
    float low = fminf(x_near, x_far), high = fmaxf(x_near, x_far), top = fminf(y_near, y_far), end = fmaxf(y_near, y_far);
    hit.column = floorf(low);
    hit.row = floorf(top);
    hit.offset = (int)hit.row * scene.canvas_width + (int)hit.column;
    if (!at.opaque && nothing_between(scene, *at.layer, x0, y0, low, high, top, end)) hit.kind = EMPTY;
    else if (at.kind == TILTED && hit.column == floorf(high) && hit.row == floorf(end)) hit.kind = ALIKE;
    if (at.kind == FRONTAL) {
        hit.x = low - hit.column;
        hit.y = top - hit.row;
    }
    return hit;
}

template <int LAYERS> DEVICE Planes<LAYERS> planes_of(const Scene& scene, const Tile& tile, int x, int y) {
    Planes<LAYERS> planes;
    size_t first = (size_t)(y + scene.margin) * scene.canvas_width + x + scene.margin;
#pragma unroll
    for (int n = 0; n < LAYERS; n++) {
        const Layer& layer = scene.layers[tile.order[n]];
        planes.texels[n] = layer.texels + first;
        if (n == 0) planes.alphas = layer.alpha + first;
        planes.delta[n] = (float)defocus_at(scene, layer, x, y);
        planes.slope[n] = (float)layer.gy;
    }
    return planes;
}

// Stop what the pixel in line p sees of layer n on one ray; left: the light that comes so far.
template <int LAYERS, int SETS, int PIXELS>
DEVICE void add_hit(LayerSums<LAYERS, SETS, PIXELS>& sums, float alpha, int n, int p, const float* w, float& left) {
#pragma unroll
    for (int set = 0; set < SETS; set++) sums.alpha[n][p][set] = fmaf(w[set], alpha, sums.alpha[n][p][set]);
    left = fmaf(-left, alpha, left);    // exactly 0 behind what is opaque
}

// The same, and add its light.
template <int LAYERS, int SETS, int PIXELS>
DEVICE void add_hit(LayerSums<LAYERS, SETS, PIXELS>& sums, const Texel& t, int n, int p, const float* w, float& left) {
    const float color[3] = {t.r, t.g, t.b};
#pragma unroll
    for (int c = 0; c < 3; c++) {
        int set = SETS == 1 ? 0 : c;
        sums.all[p][c] = fmaf(SETS == 1 ? left : left * w[set], color[c], sums.all[p][c]);
        sums.light[n][p][c] = fmaf(w[set], color[c], sums.light[n][p][c]);
    }
    add_hit(sums, t.a, n, p, w, left);
}

// Add what PIXELS pixels see of layer n on one ray. `first`: its texels or their alphas, at the first pixel.
template <typename Value, int LAYERS, int SETS, int PIXELS>
DEVICE void meet(const Value* first, const Planes<LAYERS>& planes, int stride, const Hit& hit, int n, const float* w,
                 LayerSums<LAYERS, SETS, PIXELS>& sums, float* left) {
    if (hit.kind == EMPTY) return;
    const Value* corner = first + hit.offset;
    if (hit.kind == ALIKE) {
        Value left_above = corner[0], right_above = corner[1];
#pragma unroll
        for (int p = 0; p < PIXELS; p++) {
            corner += stride;
            Value left_below = corner[0], right_below = corner[1];
            float delta = fmaf((float)p, planes.slope[n], planes.delta[n]);
            float u = hit.x * delta - hit.column, v = hit.y * delta - hit.row;
            Value upper = mix(left_above, right_above, u), lower = mix(left_below, right_below, u);
            add_hit(sums, mix(upper, lower, v), n, p, w, left[p]);
            left_above = left_below;
            right_above = right_below;
        }
    } else if (hit.kind == TILTED) {
#pragma unroll
        for (int p = 0; p < PIXELS; p++) {
            float delta = fmaf((float)p, planes.slope[n], planes.delta[n]);
            float dx = hit.x * delta, dy = hit.y * delta;
            float column = floorf(dx), row = floorf(dy);
            corner = first + (((int)row + p) * stride + (int)column);
            Value upper = mix(corner[0], corner[1], dx - column);
            Value lower = mix(corner[stride], corner[stride + 1], dx - column);
            add_hit(sums, mix(upper, lower, dy - row), n, p, w, left[p]);
        }
    } else if (hit.kind == IN_FOCUS) {
#pragma unroll
        for (int p = 0; p < PIXELS; p++) add_hit(sums, first[p * stride], n, p, w, left[p]);
    } else {
        Value upper = mix(corner[0], corner[1], hit.x);
#pragma unroll
        for (int p = 0; p < PIXELS; p++) {
            corner += stride;
            Value lower = mix(corner[0], corner[1], hit.x);
            add_hit(sums, mix(upper, lower, hit.y), n, p, w, left[p]);
            upper = lower;
        }
    }
}

// Carry one ray through the layers of PIXELS pixels. `hits`: one for each layer.
template <int LAYERS, int SETS, int PIXELS>
DEVICE void carry(const Planes<LAYERS>& planes, int stride, const Hit* hits, const float* w,
                  LayerSums<LAYERS, SETS, PIXELS>& sums) {
    float left[PIXELS];
#pragma unroll
    for (int p = 0; p < PIXELS; p++) left[p] = SETS == 1 ? w[0] : 1.0f;
    meet(planes.alphas, planes, stride, hits[0], 0, w, sums, left);
#pragma unroll
    for (int n = 1; n < LAYERS; n++) meet(planes.texels[n], planes, stride, hits[n], n, w, sums, left);
#pragma unroll
    for (int p = 0; p < PIXELS; p++) {
#pragma unroll
        for (int set = 0; set < SETS; set++)
            sums.through[p][set] += SETS == 1 ? left[p] : left[p] * w[set];
    }
#pragma unroll
    for (int set = 0; set < SETS; set++) sums.passed[set] += w[set];
}

// The pixel (x, y) from its sums: the means' composite plus what it misses.
template <int LAYERS, int SETS, int PIXELS>
DEVICE void write_corrected(const Scene& scene, const Tile& tile, const LayerSums<LAYERS, SETS, PIXELS>& sums, int p,
                            int x, int y) {
    size_t plane = (size_t)scene.height * scene.width, at = (size_t)y * scene.width + x;
    float light[3], through[3], over[3], left[3];
    bool touched = false;               // whether blurred layers stop any light; if not, bits are kept
#pragma unroll
    for (int c = 0; c < 3; c++) {
        int set = SETS == 1 ? 0 : c;
        over[c] = 0;
        left[c] = 1;
        if (sums.passed[set] <= 0) continue;
#pragma unroll
        for (int n = 0; n < LAYERS; n++) {
            bool blurred = defocus_at(scene, scene.layers[tile.order[n]], x, y) != 0;
            touched = touched || (blurred && left[c] != 0 && sums.alpha[n][p][set] != 0);
            if (n > 0) over[c] += sums.light[n][p][c] / sums.passed[set] * left[c];
            left[c] *= 1.0f - sums.alpha[n][p][set] / sums.passed[set];
        }
    }
#pragma unroll
    for (int c = 0; c < 3; c++) {
        int set = SETS == 1 ? 0 : c;
        light[c] = scene.base[c * plane + at];
        through[c] = scene.base[(3 + c) * plane + at];
        if (!touched || sums.passed[set] <= 0) continue;
        light[c] += sums.all[p][c] / sums.passed[set] - over[c];
        through[c] += sums.through[p][set] / sums.passed[set] - left[c];
    }
    write_pixel(scene, x, y, light, through, scene.channels_passed);
}

// A tile of LAYERS layers. All TILE_W x ROWS / PIXELS threads of the block call it together.
template <int LAYERS, int SETS, int PIXELS>
DEVICE void correct_tile(const Scene& scene, const Tile& tile, int x0, int y0, Hit* hits, LayerInTile* in_tile) {
    const int threads = TILE_W * (ROWS / PIXELS);
    int x = x0 + (int)threadIdx.x, y = y0 + (int)threadIdx.y * PIXELS, me = threadIdx.y * TILE_W + threadIdx.x;
    bool inside = x < scene.width;
    Planes<LAYERS> planes = planes_of<LAYERS>(scene, tile, inside ? x : scene.width - 1, y);
    LayerSums<LAYERS, SETS, PIXELS> sums = {};
    if (me < LAYERS) in_tile[me] = layer_in_tile(scene, tile, tile.order[me], x0, y0);
    for (int start = tile.start; start < tile.stop; start += STAGED_RAYS) {
        int count = tile.stop - start < STAGED_RAYS ? tile.stop - start : STAGED_RAYS;
        __syncthreads();
        for (int k = me; k < count * LAYERS; k += threads)
            hits[k] = hit_of(scene, in_tile[k % LAYERS], x0, y0, start + k / LAYERS);
        __syncthreads();
        for (int k = 0; k < count; k++) {
            float w[SETS];
#pragma unroll
            for (int set = 0; set < SETS; set++) w[set] = scene.weights[set * scene.rays + start + k];
            carry(planes, scene.canvas_width, hits + k * LAYERS, w, sums);
        }
    }
    if (!inside) return;
#pragma unroll
    for (int p = 0; p < PIXELS; p++) write_corrected(scene, tile, sums, p, x, y + p);
}
