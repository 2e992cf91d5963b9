// Tiles that need no rays: exact means of every layer by footprint kernels, composited.
//
// A block of 32 threads does a tile; a thread holds a column of ROWS pixels in registers. Along a column of a kernel
// each texel it reads serves all of them, with weights that are shifted from one to the next.
#pragma once
#include "scene.cuh"

const int STAGED = 1536;                // weights in shared memory at a time
const int HELD = TILE_W * ROWS * 4;     // and behind them, of large footprints, the sums of the columns before

// Add column `staged` of a kernel, rows first..last, to the sums of the pixels (x, y) .. (x, y + ROWS - 1).
DEVICE void slide(const Scene& scene, const Texel* column, int y, const float* staged, int first, int last, int half,
                  Texel* sum) {
    float w[ROWS];
#pragma unroll
    for (int p = 0; p < ROWS; p++) w[p] = 0;
#pragma unroll 8
    for (int j = first; j < last + ROWS; j++) {
#pragma unroll
        for (int p = ROWS - 1; p > 0; p--) w[p] = w[p - 1];
        w[0] = j <= last ? staged[j] : 0.0f;
        int row = clamp(y + scene.margin + j - half, 0, scene.canvas_height - 1);
        Texel t = column[(size_t)row * scene.canvas_width];
#pragma unroll
        for (int p = 0; p < ROWS; p++) {
            sum[p].r = fmaf(w[p], t.r, sum[p].r);
            sum[p].g = fmaf(w[p], t.g, sum[p].g);
            sum[p].b = fmaf(w[p], t.b, sum[p].b);
            sum[p].a = fmaf(w[p], t.a, sum[p].a);
        }
    }
}

// Add the sums of some columns to those held in shared memory, and begin anew. Even discs have weights by the hundred
// thousand that are all alike, and so far below their sum that each would be rounded the same way.
DEVICE void hold(float* held, Texel* sum) {
#pragma unroll
    for (int p = 0; p < ROWS; p++) {
        float* mine = held + 4 * p * TILE_W + threadIdx.x;
        mine[0] += sum[p].r;
        mine[TILE_W] += sum[p].g;
        mine[2 * TILE_W] += sum[p].b;
        mine[3 * TILE_W] += sum[p].a;
        sum[p].r = sum[p].g = sum[p].b = sum[p].a = 0;
    }
}

DEVICE void take_held(const float* held, Texel* sum) {
#pragma unroll
    for (int p = 0; p < ROWS; p++) {
        const float* mine = held + 4 * p * TILE_W + threadIdx.x;
        sum[p].r = mine[0];
        sum[p].g = mine[TILE_W];
        sum[p].b = mine[2 * TILE_W];
        sum[p].a = mine[3 * TILE_W];
    }
}

// Means of a layer over one node's kernel. All threads of the block call it together.
DEVICE void filter(const Scene& scene, const Layer& layer, const Node& node, int set, int x, int y, float* staged,
                   Texel* sum) {
    int side = 2 * node.half + 1, width = STAGED / side;
    const Weight* sums = node.sums + (size_t)set * side * side;
#pragma unroll
    for (int p = 0; p < ROWS; p++) sum[p].r = sum[p].g = sum[p].b = sum[p].a = 0;
    float* held = staged + STAGED;
    for (int k = threadIdx.x; k < HELD && node.chords; k += TILE_W) held[k] = 0;  // each thread its own
    for (int c0 = 0; c0 < side; c0 += width) {
        int columns = width < side - c0 ? width : side - c0;
        __syncthreads();
        for (int k = threadIdx.x; k < columns * side; k += TILE_W)
            staged[k] = sums[(size_t)c0 * side + k].share;
        __syncthreads();
        for (int c = c0; c < c0 + columns; c++) {
            int first = node.spans[2 * c], last = node.spans[2 * c + 1];
            int column = clamp(x + scene.margin + c - node.half, 0, scene.canvas_width - 1);
            if (first <= last)
                slide(scene, layer.texels + column, y, staged + (c - c0) * side, first, last, node.half, sum);
        }
        if (node.chords) hold(held, sum);
    }
    if (node.chords) take_held(held, sum);
}

// Share of node n in the kernel for radius r: 1 at its own, falling to 0 at its neighbours'; 1 beyond the ends.
DEVICE float share(const Node* nodes, int n, int count, float r) {
    float here = (float)nodes[n].r;
    if (r < here) return n == 0 ? 1.0f : fmaxf(0.0f, (r - (float)nodes[n - 1].r) / (here - (float)nodes[n - 1].r));
    if (r > here && n < count - 1)
        return fmaxf(0.0f, ((float)nodes[n + 1].r - r) / ((float)nodes[n + 1].r - here));
    return 1.0f;
}

// Means of a blurred layer over the opening, for the pixels (x, y) .. (x, y + ROWS - 1) of the tile at (x0, y0).
DEVICE void means_of(const Scene& scene, const Layer& layer, int set, int x0, int y0, int x, int y, float* staged,
                     Texel* mean) {
    const Node* nodes = scene.nodes + layer.first_node;
    if (layer.nodes == 1) {
        filter(scene, layer, nodes[0], set, x, y, staged, mean);
        return;
    }
    double low, high;
    plane_range(scene, layer, x0, y0, TILE_W, ROWS, &low, &high);  // of the whole tile, beyond the picture's edge too
    low *= scene.blur;
    high *= scene.blur;
    Texel part[ROWS];
#pragma unroll
    for (int p = 0; p < ROWS; p++) mean[p].r = mean[p].g = mean[p].b = mean[p].a = 0;
    for (int n = 0; n < layer.nodes; n++) {
        if ((n < layer.nodes - 1 && nodes[n + 1].r <= low) || (n > 0 && nodes[n - 1].r >= high)) continue;
        filter(scene, layer, nodes[n], set, x, y, staged, part);
#pragma unroll
        for (int p = 0; p < ROWS; p++) {
            float w = share(nodes, n, layer.nodes, (float)(scene.blur * defocus_at(scene, layer, x, y + p)));
            mean[p].r = fmaf(w, part[p].r, mean[p].r);
            mean[p].g = fmaf(w, part[p].g, mean[p].g);
            mean[p].b = fmaf(w, part[p].b, mean[p].b);
            mean[p].a = fmaf(w, part[p].a, mean[p].a);
        }
    }
}

// The light of one set of weights, composited: light[p], 3 channels, and what no layer stops.
DEVICE void composite(const Scene& scene, const Tile& tile, int set, int x0, int y0, int x, float* staged,
                      float (*light)[3], float* through) {
    Texel mean[ROWS];
#pragma unroll
    for (int p = 0; p < ROWS; p++) {
        light[p][0] = light[p][1] = light[p][2] = 0;
        through[p] = 1;
    }
    for (int k = 0; k < tile.count; k++) {
        int m = tile.order[k];
        const Layer& layer = scene.layers[m];
        bool opaque = tile.opaque >> m & 1;
        if (tile.sharp >> m & 1) {
#pragma unroll
            for (int p = 0; p < ROWS; p++) mean[p] = texel_at(scene, layer, x, y0 + p);
        } else {
            means_of(scene, layer, set, x0, y0, x, y0, staged, mean);
        }
#pragma unroll
        for (int p = 0; p < ROWS; p++) {
            light[p][0] += mean[p].r * through[p];
            light[p][1] += mean[p].g * through[p];
            light[p][2] += mean[p].b * through[p];
            through[p] = opaque ? 0.0f : through[p] * (1.0f - mean[p].a);
        }
        if (opaque) break;
    }
}
