// Tiles that need no rays: exact means of every layer by footprint kernels, composited.
//
// A block of 32 x WARPS threads does a tile. Each warp filters every WARPS'th column of a kernel for the whole tile: a
// thread holds a column of ROWS pixels in registers, and each texel it reads serves all of them, with weights that are
// shifted from one to the next. The warps' sums are added in their order, by each warp for its own OWN rows.
#pragma once
#include "scene.cuh"

const int WARPS = 4, OWN = ROWS / WARPS;  // warps of a block, rows that each composites
const int SUMS = TILE_W * ROWS * 4;     // of one warp, in shared memory

// Weights of the column's next row for all pixels: each gets that of the one above.
DEVICE void shift(float* w, float next) {
#pragma unroll
    for (int p = ROWS - 1; p > 0; p--) w[p] = w[p - 1];
    w[0] = next;
}

// Add a texel to the sums of the pixels from .. upto - 1; without ALPHA colour alone, as is enough of opaque layers.
template <bool ALPHA> DEVICE void spread(const Texel& t, const float* w, int from, int upto, Texel* sum) {
#pragma unroll
    for (int p = 0; p < ROWS; p++) {
        if (p < from || p >= upto) continue;
        sum[p].r = fmaf(w[p], t.r, sum[p].r);
        sum[p].g = fmaf(w[p], t.g, sum[p].g);
        sum[p].b = fmaf(w[p], t.b, sum[p].b);
        if (ALPHA) sum[p].a = fmaf(w[p], t.a, sum[p].a);
    }
}

// Add `count` >= ROWS rows of a kernel's column, the first of which meets `texel` for the first pixel; all on the canvas.
template <bool ALPHA>
DEVICE void slide(const Texel* texel, int stride, const Weight* weights, int count, Texel* sum) {
    float w[ROWS];
#pragma unroll
    for (int p = 0; p < ROWS; p++) w[p] = 0;
#pragma unroll
    for (int j = 0; j < ROWS; j++) {    // the first rows meet the first pixels alone
        shift(w, weights[j].share);
        spread<ALPHA>(*texel, w, 0, j + 1, sum);
        texel += stride;
    }
#pragma unroll 8
    for (int j = ROWS; j < count; j++) {
        shift(w, weights[j].share);
        spread<ALPHA>(*texel, w, 0, ROWS, sum);
        texel += stride;
    }
#pragma unroll
    for (int j = 1; j < ROWS; j++) {    // and the last ones the last
        shift(w, 0);
        spread<ALPHA>(*texel, w, j, ROWS, sum);
        texel += stride;
    }
}

// The same of `count` < ROWS rows: the texels of all pixels are held, the row's weight is the same for each.
DEVICE void slide_short(const Texel* texel, int stride, const Weight* weights, int count, Texel* sum) {
    Texel held[ROWS];
#pragma unroll
    for (int p = 0; p < ROWS; p++) held[p] = texel[p * stride];
    texel += (size_t)ROWS * stride;
#pragma unroll
    for (int j = 0; j < ROWS - 1; j++) {
        if (j >= count) break;
        float w = weights[j].share;
#pragma unroll
        for (int p = 0; p < ROWS; p++) {
            const Texel& t = held[(p + j) % ROWS];
            sum[p].r = fmaf(w, t.r, sum[p].r);
            sum[p].g = fmaf(w, t.g, sum[p].g);
            sum[p].b = fmaf(w, t.b, sum[p].b);
            sum[p].a = fmaf(w, t.a, sum[p].a);
        }
        if (j + 1 < count) held[j] = *texel;
        texel += stride;
    }
}

// The same of any column, some rows of which lie beyond the canvas: `row` is that of the first on it.
DEVICE void slide_clamped(const Scene& scene, const Texel* column, int row, const Weight* weights, int count,
                          Texel* sum) {
    float w[ROWS];
#pragma unroll
    for (int p = 0; p < ROWS; p++) w[p] = 0;
#pragma unroll 1
    for (int j = 0; j < count + ROWS - 1; j++) {
        shift(w, j < count ? weights[j].share : 0.0f);
        int at = clamp(row + j, 0, scene.canvas_height - 1);
        spread<true>(column[(size_t)at * scene.canvas_width], w, 0, ROWS, sum);
    }
}

DEVICE float* held_of(float* sums, int warp, int p) {
    return sums + warp * SUMS + 4 * p * TILE_W + threadIdx.x;
}

DEVICE void clear(Texel* sum) {
#pragma unroll
    for (int p = 0; p < ROWS; p++) sum[p].r = sum[p].g = sum[p].b = sum[p].a = 0;
}

// Lay this thread's sums into its place in shared memory.
DEVICE void lay(float* sums, const Texel* sum) {
#pragma unroll
    for (int p = 0; p < ROWS; p++) {
        float* mine = held_of(sums, threadIdx.y, p);
        mine[0] = sum[p].r;
        mine[TILE_W] = sum[p].g;
        mine[2 * TILE_W] = sum[p].b;
        mine[3 * TILE_W] = sum[p].a;
    }
}

// Add what lies there.
DEVICE void add_laid(const float* mine, Texel& sum) {
    sum.r += mine[0];
    sum.g += mine[TILE_W];
    sum.b += mine[2 * TILE_W];
    sum.a += mine[3 * TILE_W];
}

// This warp's part of the means of a layer over one node's kernel.
DEVICE void filter(const Scene& scene, const Layer& layer, bool opaque, const Node& node, int set, int x, int y,
                   float* sums, Texel* sum) {
    int side = 2 * node.half + 1;
    const Weight* weights = node.sums + (size_t)set * side * side;
    bool inside = node.half <= scene.margin && y + ROWS + node.half <= scene.height + scene.margin;
    int top = y + scene.margin - node.half;
    clear(sum);
    if (node.chords) lay(sums, sum);
    for (int c = threadIdx.y; c < side; c += WARPS) {
        int first = node.spans[2 * c], count = node.spans[2 * c + 1] - first + 1;
        if (count <= 0) continue;
        int column = clamp(x + scene.margin + c - node.half, 0, scene.canvas_width - 1);
        const Texel* texels = layer.texels + column;
        const Weight* of_column = weights + (size_t)c * side + first;
        const Texel* texel = texels + (ptrdiff_t)(top + first) * scene.canvas_width;
        if (!inside)
            slide_clamped(scene, texels, top + first, of_column, count, sum);
        else if (count < ROWS)
            slide_short(texel, scene.canvas_width, of_column, count, sum);
        else if (opaque)
            slide<false>(texel, scene.canvas_width, of_column, count, sum);
        else
            slide<true>(texel, scene.canvas_width, of_column, count, sum);
        if (!node.chords) continue;
        // Even discs have weights by the hundred thousand that are all alike, and so far below their sum that each
        // would be rounded the same way: columns are summed apart.
#pragma unroll
        for (int p = 0; p < ROWS; p++) add_laid(held_of(sums, threadIdx.y, p), sum[p]);
        lay(sums, sum);
        clear(sum);
    }
    if (!node.chords) return;
#pragma unroll
    for (int p = 0; p < ROWS; p++) add_laid(held_of(sums, threadIdx.y, p), sum[p]);
}

// Share of node n in the kernel for radius r: 1 at its own, falling to 0 at its neighbours'; 1 beyond the ends.
DEVICE float share(const Node* nodes, int n, int count, float r) {
    float here = (float)nodes[n].r;
    if (r < here) return n == 0 ? 1.0f : fmaxf(0.0f, (r - (float)nodes[n - 1].r) / (here - (float)nodes[n - 1].r));
    if (r > here && n < count - 1)
        return fmaxf(0.0f, ((float)nodes[n + 1].r - r) / ((float)nodes[n + 1].r - here));
    return 1.0f;
}

// This warp's part of the means of a blurred layer over the opening, for the pixels (x, y) .. (x, y + ROWS - 1) of the
// tile at (x0, y).
DEVICE void means_of(const Scene& scene, const Layer& layer, bool opaque, int set, int x0, int x, int y, float* sums,
                     Texel* mean) {
    const Node* nodes = scene.nodes + layer.first_node;
    double low, high;
    plane_range(scene, layer, x0, y, TILE_W, ROWS, &low, &high);  // of the whole tile, beyond the picture's edge too
    low *= scene.blur;
    high *= scene.blur;
    Texel part[ROWS];
    clear(mean);
    for (int n = 0; n < layer.nodes; n++) {
        if ((n < layer.nodes - 1 && nodes[n + 1].r <= low) || (n > 0 && nodes[n - 1].r >= high)) continue;
        filter(scene, layer, opaque, nodes[n], set, x, y, sums, part);
#pragma unroll
        for (int p = 0; p < ROWS; p++) {
            float w = 1;
            if (layer.nodes > 1)
                w = share(nodes, n, layer.nodes, (float)(scene.blur * defocus_at(scene, layer, x, y + p)));
            mean[p].r = fmaf(w, part[p].r, mean[p].r);
            mean[p].g = fmaf(w, part[p].g, mean[p].g);
            mean[p].b = fmaf(w, part[p].b, mean[p].b);
            mean[p].a = fmaf(w, part[p].a, mean[p].a);
        }
    }
}

// The light of one set of weights, composited, for this warp's OWN rows of the tile at (x0, y0): light[p], 3 channels,
// and what no layer stops. All threads of the block call it together.
DEVICE void composite(const Scene& scene, const Tile& tile, int set, int x0, int y0, int x, float* sums,
                      float (*light)[3], float* through) {
    int mine = threadIdx.y * OWN;
    Texel mean[OWN];
#pragma unroll
    for (int p = 0; p < OWN; p++) {
        light[p][0] = light[p][1] = light[p][2] = 0;
        through[p] = 1;
    }
    for (int k = 0; k < tile.count; k++) {
        int m = tile.order[k];
        const Layer& layer = scene.layers[m];
        bool opaque = tile.opaque >> m & 1;
        if (tile.sharp >> m & 1) {
#pragma unroll
            for (int p = 0; p < OWN; p++) mean[p] = texel_at(scene, layer, x, y0 + mine + p);
        } else {
            Texel part[ROWS];
            means_of(scene, layer, opaque, set, x0, x, y0, sums, part);
            lay(sums, part);
            __syncthreads();
#pragma unroll
            for (int p = 0; p < OWN; p++) {
                mean[p].r = mean[p].g = mean[p].b = mean[p].a = 0;
                for (int warp = 0; warp < WARPS; warp++) add_laid(held_of(sums, warp, mine + p), mean[p]);
            }
            __syncthreads();
        }
#pragma unroll
        for (int p = 0; p < OWN; p++) {
            light[p][0] += mean[p].r * through[p];
            light[p][1] += mean[p].g * through[p];
            light[p][2] += mean[p].b * through[p];
            through[p] = opaque ? 0.0f : through[p] * (1.0f - mean[p].a);
        }
        if (opaque) break;
    }
}
