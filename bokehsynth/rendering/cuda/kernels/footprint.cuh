// Footprint kernels: the rays of all lens points through one layer, as a table of texel weights.
//
// A ray of lens point u meets a layer at the offset D = r u / (1 - e.u) from its pixel (r = K delta, e = K g); with a
// bilinear lookup the mean over all rays is a weighted sum of texels, whatever their number. Small footprints are
// folded from lens points, in whole numbers, 2^31 for all light of a set: additions in any order give the same bits.
// Of large ones, which no number of points covers evenly, each texel's weight is integrated over the opening's image
// (`aperture/footprint_kernel.py` has the formula).
#pragma once
#include "scene.cuh"

const float WHOLE = 2147483648.0f;

DEVICE void fold_ray(const Node& node, int ray) {
    int side = 2 * node.half + 1;
    float ux = node.points[2 * ray], uy = node.points[2 * ray + 1];
    float stretch = (float)node.r / (1.0f - (float)node.ex * ux - (float)node.ey * uy);
    float dx = ux * stretch, dy = uy * stretch;
    int i = (int)floorf(dx), j = (int)floorf(dy);
    float fx = dx - i, fy = dy - j;
    i = clamp(i + node.half, 0, side - 2);
    j = clamp(j + node.half, 0, side - 2);
    for (int set = 0; set < node.sets; set++) {
        float w = node.weights[set * node.count + ray] * WHOLE;
        Weight* corner = node.sums + ((size_t)set * side + i) * side + j;
        atomicAdd(&corner[0].whole, (unsigned int)(w * (1 - fx) * (1 - fy) + 0.5f));
        atomicAdd(&corner[1].whole, (unsigned int)(w * (1 - fx) * fy + 0.5f));
        atomicAdd(&corner[side].whole, (unsigned int)(w * fx * (1 - fy) + 0.5f));
        atomicAdd(&corner[side + 1].whole, (unsigned int)(w * fx * fy + 0.5f));
    }
}

DEVICE float transmission_at(const float* table, int side, float ux, float uy) {
    if (side == 1) return table[0];
    float px = fminf(fmaxf((ux + 1) / 2 * (side - 1), 0.0f), side - 1.0f);
    float py = fminf(fmaxf((uy + 1) / 2 * (side - 1), 0.0f), side - 1.0f);
    int i = clamp((int)px, 0, side - 2), j = clamp((int)py, 0, side - 2);
    const float* upper = table + (size_t)j * side + i;
    const float* lower = upper + side;
    return mix(mix(upper[0], upper[1], px - i), mix(lower[0], lower[1], px - i), py - j);
}

// Light of set `set` on the bilinear tent of texel (i, j) of a node, not normalised: over each chord's parts left and
// right of the texel by two Gauss points.
DEVICE float integrate_texel(const Node& node, int set, int i, int j) {
    const float* table = node.transmission + (size_t)set * node.table_side * node.table_side;
    float r = (float)node.r, ex = (float)node.ex, ey = (float)node.ey, light = 0;
    for (int row = j > 0 ? j - 1 : 0; row <= j; row++) {
        for (int n = node.rows[row]; n < node.rows[row + 1]; n++) {
            const float* chord = node.chords + 4 * (size_t)n;
            float v = chord[0] - (float)(row - node.half), part = 0;
            for (int cell = i - node.half - 1; cell <= i - node.half; cell++) {
                float start = fmaxf(chord[2], (float)cell), stop = fminf(chord[3], (float)(cell + 1));
                if (start >= stop) continue;
                for (int point = 0; point < 2; point++) {
                    float at = start + (stop - start) * (point ? 0.78867513f : 0.21132487f);
                    float scale = r + ex * at + ey * chord[0];  // du = r / scale^3 dD
                    float dense = (stop - start) * r / (scale * scale * scale);
                    float tent = cell < i - node.half ? at - cell : 1 - (at - cell);
                    part += dense * tent * transmission_at(table, node.table_side, at / scale, chord[0] / scale);
                }
            }
            light += chord[1] * (row < j ? v : 1 - v) * part;
        }
    }
    return light;
}

// Make the light of one set a node's texels 1 in all. All 256 threads of the block call it together.
DEVICE void normalise(const Node& node, int set, double* scratch) {
    int side = 2 * node.half + 1, texels = side * side;
    Weight* sums = node.sums + (size_t)set * texels;
    double mine = 0, total = 0;
    for (int k = threadIdx.x; k < texels; k += 256) mine += sums[k].share;
    __syncthreads();
    scratch[threadIdx.x] = mine;
    __syncthreads();
    for (int t = 0; t < 256; t++) total += scratch[t];
    float factor = total > 0 ? (float)(1 / total) : 0.0f;
    for (int k = threadIdx.x; k < texels; k += 256) sums[k].share *= factor;
}

// First and last row of a column that any set gives weight to; (0, -1) if none. Whole numbers become shares.
DEVICE void measure_column(const Node& node, int column) {
    int side = 2 * node.half + 1, first = side, last = -1;
    for (int set = 0; set < node.sets; set++) {
        Weight* sums = node.sums + ((size_t)set * side + column) * side;
        for (int j = 0; j < side; j++) {
            float share = node.chords ? sums[j].share : (float)sums[j].whole * (1 / WHOLE);
            sums[j].share = share;
            if (share == 0) continue;
            first = j < first ? j : first;
            last = j > last ? j : last;
        }
    }
    node.spans[2 * column] = last < 0 ? 0 : first;
    node.spans[2 * column + 1] = last;
}
