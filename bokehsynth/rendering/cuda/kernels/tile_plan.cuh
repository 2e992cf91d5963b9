// What each tile of a picture sees: which layers, in which order, and whether two of them vary together.
//
// The twin of `cpu/tile_bounds.py` and `cpu/tile_plan.py`. Bounds that are too loose cost time and never change what
// is converged to.
#pragma once
#include "scene.cuh"

struct LayerView {
    bool visible, opaque, varies;
    double low, high, reach;            // range of d(p') - d_f, and how far in px hits may lie
};

// The blocks of a canvas's side, and the first and last that come within `pad` px of `count` texels from `first` on.
struct Stretch {
    int shift, first, last;
};

DEVICE Stretch stretch_of(int side, int first, int count, double pad) {
    Stretch stretch;
    int last = block_count(side) * BLOCK - 1;
    double low = fmax(-1.0, floor(first - pad)), high = fmin((double)side, ceil(first + count - 1 + pad));
    stretch.shift = block_shift(side);
    stretch.first = clamp((int)low + stretch.shift, 0, last) / BLOCK;
    stretch.last = clamp((int)high + stretch.shift, 0, last) / BLOCK;
    return stretch;
}

// Texels between a block and a tile along one side, 0 where they overlap.
DEVICE int gap(const Stretch& stretch, int block, int first, int count) {
    int start = block * BLOCK - stretch.shift;
    int after = first - (start + BLOCK - 1), before = start - (first + count - 1);
    return after > 0 ? after : before > 0 ? before : 0;
}

// Least and largest value of the blocks that come within `pad` px of a tile whose corner is canvas texel (left, top).
// All TILE_W threads of a block call it together and get the same; `scratch` holds two floats for each.
DEVICE void bounds(const Scene& scene, const float* blocks, int left, int top, int n, int rows, double pad,
                   float* scratch, float* least, float* most) {
    Stretch across = stretch_of(scene.canvas_width, left, n, pad);
    Stretch down = stretch_of(scene.canvas_height, top, rows, pad);
    int columns = block_count(scene.canvas_width), wide = across.last - across.first + 1;
    const float* high = blocks + (size_t)columns * block_count(scene.canvas_height);
    float low_of_mine = 3.0e38f, high_of_mine = -3.0e38f;
    for (int k = threadIdx.x; k < wide * (down.last - down.first + 1); k += TILE_W) {
        int r = down.first + k / wide, c = across.first + k % wide;
        double dx = gap(across, c, left, n), dy = gap(down, r, top, rows);
        if (dx * dx + dy * dy > pad * pad) continue;
        low_of_mine = fminf(low_of_mine, blocks[(size_t)r * columns + c]);
        high_of_mine = fmaxf(high_of_mine, high[(size_t)r * columns + c]);
    }
    __syncthreads();
    scratch[2 * threadIdx.x] = low_of_mine;
    scratch[2 * threadIdx.x + 1] = high_of_mine;
    __syncthreads();
    *least = 3.0e38f;
    *most = -3.0e38f;
    for (int t = 0; t < TILE_W; t++) {
        *least = fminf(*least, scratch[2 * t]);
        *most = fmaxf(*most, scratch[2 * t + 1]);
    }
}

// Range of a height field's d - d_f where rays of a tile may meet it. A hit lies within K |delta| of its pixel: each
// bound on delta bounds where to look for a better one.
DEVICE void field_range(const Scene& scene, const Layer& layer, int left, int top, int n, int rows, float* scratch,
                        double* low, double* high) {
    double pad = 1e6;
    for (int round = 0; round < 8; round++) {
        float least, most;
        bounds(scene, layer.heights, left, top, n, rows, pad, scratch, &least, &most);
        *low = least - layer.focus;
        *high = most - layer.focus;
        double closer = ceil(scene.blur * fmax(fabs(*low), fabs(*high))) + 1;
        if (closer >= pad) break;
        pad = closer;
    }
}

// All threads of a block together.
DEVICE LayerView view_of_layer(const Scene& scene, const Layer& layer, int x0, int y0, int n, int rows,
                              float* scratch) {
    LayerView view;
    double e = 0;
    if (layer.values) {
        field_range(scene, layer, x0 + scene.margin, y0 + scene.margin, n, rows, scratch, &view.low, &view.high);
    } else {
        plane_range(scene, layer, x0, y0, n, rows, &view.low, &view.high);
        e = scene.blur * sqrt(layer.gx * layer.gx + layer.gy * layer.gy);  // not hypot: it may round otherwise
    }
    view.reach = scene.blur * fmax(fabs(view.low), fabs(view.high)) / (1 - e);
    // d(p') - d_f = delta / (1 - K g.s): the lens point stretches the range by 1/(1 -+ e)
    view.low /= view.low > 0 ? 1 + e : 1 - e;
    view.high /= view.high > 0 ? 1 - e : 1 + e;
    float least, most;
    double pad = view.reach > 0 ? view.reach + 1 : 0;
    bounds(scene, layer.alphas, x0 + scene.margin, y0 + scene.margin, n, rows, pad, scratch, &least, &most);
    view.visible = most > 0;
    view.opaque = least == 1;
    view.varies = least < most;
    return view;
}

DEVICE bool same_plane(const Layer& a, const Layer& b) {
    return !a.values && !b.values && a.d == b.d && a.gx == b.gx && a.gy == b.gy;
}

// Fill the tile's order, near to far, without layers that cannot be seen; ties keep the order given.
DEVICE void order_layers(const Scene& scene, const LayerView* views, Tile& tile) {
    tile.count = 0;
    for (int m = 0; m < scene.layer_count; m++) {
        bool hidden = !views[m].visible;
        for (int k = 0; k < scene.layer_count && !hidden; k++)
            hidden = views[k].opaque && (views[k].low > views[m].high || (views[k].low == views[m].high && k < m));
        if (hidden) continue;
        int place = tile.count++;
        for (; place > 0 && views[tile.order[place - 1]].high < views[m].high; place--)
            tile.order[place] = tile.order[place - 1];
        tile.order[place] = (unsigned char)m;
    }
}

// Whether the tile's order holds for every ray and pixel.
DEVICE bool is_sorted(const Scene& scene, const LayerView* views, const Tile& tile) {
    for (int k = 1; k < tile.count; k++) {
        int a = tile.order[k - 1], b = tile.order[k];
        if (same_plane(scene.layers[a], scene.layers[b])) continue;  // a tie for every ray
        if (views[a].low < views[b].high || (views[a].low == views[b].high && a > b)) return false;
    }
    return true;
}

// Side of the grid of plain rays: `ray_tracer.grid_side`.
DEVICE int plain_side(double reach) {
    double side = fmax(18 + 1.3 * reach, 1.4 * reach);
    int even = 2 * (int)ceil(side / 2);
    return even < 128 ? even : 128;
}

// Side of the grid of those that only say what varies together, from the two largest radii. Small radii, at which a
// single light counts for more, get up to half as much again; a seam between layers in one plane gets the double.
DEVICE int control_variate_side(double widest, double second, bool seam) {
    double mean = sqrt(widest * second);
    double share = (seam ? 2 : 1) * (1 + 0.5 * fmin(fmax((12 - mean) / 6, 0.3), 1.0));
    int even = 2 * (int)ceil(share * fmin(3.2 + 0.52 * mean, 11.0));
    return even < 64 ? even : 64;
}

// Layers of a CONTROL_VARIATE tile if it is a whole one of few planes, seen nowhere beyond the canvas; otherwise 0.
DEVICE int planes_of_tile(const Scene& scene, const Tile& tile, double reach, int y0) {
    bool planes = tile.count >= 2 && tile.count <= MOST_PLANES;
    for (int k = 0; k < tile.count; k++) planes = planes && !scene.layers[tile.order[k]].values;
    return planes && reach + 2 <= scene.margin && y0 + ROWS <= scene.height ? tile.count : 0;
}

// Which way the tile goes whose first row is y0, and with which rays.
DEVICE void choose_path(const Scene& scene, const LayerView* views, int y0, Tile& tile) {
    double widest = 0, second = 0;
    bool dimming = false, together = false, seam = false, field = false;
    tile.sharp = tile.opaque = 0;
    for (int k = 0; k < tile.count; k++) {
        int m = tile.order[k];
        const LayerView& layer = views[m];
        if (layer.opaque) tile.opaque |= 1u << m;
        if (layer.reach == 0) tile.sharp |= 1u << m;
        second = fmax(second, fmin(widest, layer.reach));
        widest = fmax(widest, layer.reach);
        seam = seam || (k > 0 && same_plane(scene.layers[m], scene.layers[tile.order[k - 1]]));
        if (layer.reach == 0) continue;
        together = together || dimming;
        dimming = dimming || layer.varies;
        field = field || scene.layers[m].values;
    }
    tile.sorted = is_sorted(scene, views, tile);
    tile.moving = widest > 0;
    tile.path = !tile.moving ? COPY : together ? CONTROL_VARIATE : DIRECT;
    if (!tile.sorted || (tile.moving && (field || scene.pupils))) tile.path = RAY_TRACED;
    tile.planes = tile.path == CONTROL_VARIATE ? planes_of_tile(scene, tile, widest, y0) : 0;
    int side = tile.path == CONTROL_VARIATE ? control_variate_side(widest, second, seam) : plain_side(widest);
    if (scene.pupils) side = 2 * side < 128 ? 2 * side : 128;  // its rim cuts between rays, and stops many
    side = side < scene.sides ? side : scene.sides - 1;
    tile.start = tile.moving ? scene.spans[2 * side] : 0;
    tile.stop = tile.moving ? scene.spans[2 * side + 1] : 1;
}
