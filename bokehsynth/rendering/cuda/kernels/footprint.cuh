// Footprint kernels: the rays of all lens points through one layer, folded into a table of texel weights.
//
// A ray of lens point u meets a layer at the offset D = r u / (1 - e.u) from its pixel (r = K delta, e = K g); with a
// bilinear lookup the mean over all rays is a weighted sum of texels, whatever their number. Sums are kept in whole
// numbers, 2^31 for all light of a set: additions in any order give the same bits.
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
        unsigned int* corner = node.sums + ((size_t)set * side + i) * side + j;
        atomicAdd(corner, (unsigned int)(w * (1 - fx) * (1 - fy) + 0.5f));
        atomicAdd(corner + 1, (unsigned int)(w * (1 - fx) * fy + 0.5f));
        atomicAdd(corner + side, (unsigned int)(w * fx * (1 - fy) + 0.5f));
        atomicAdd(corner + side + 1, (unsigned int)(w * fx * fy + 0.5f));
    }
}

// First and last row of a column that any set gives weight to; (0, -1) if none.
DEVICE void measure_column(const Node& node, int column) {
    int side = 2 * node.half + 1, first = side, last = -1;
    for (int set = 0; set < node.sets; set++) {
        const unsigned int* sums = node.sums + ((size_t)set * side + column) * side;
        for (int j = 0; j < side; j++) {
            if (sums[j] == 0) continue;
            first = j < first ? j : first;
            last = j > last ? j : last;
        }
    }
    node.spans[2 * column] = last < 0 ? 0 : first;
    node.spans[2 * column + 1] = last;
}
