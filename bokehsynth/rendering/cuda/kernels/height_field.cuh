// Where a ray meets a height field: exactly, through walls and folds.
//
// Seen along a ray a bilinear field is a quadratic between two lines of texels. The ray is walked from line to line,
// nearest first; the first root is the hit. The twin of `cpu/height_field/intersections.py`.
#pragma once
#include "scene.cuh"

const float AT_THE_END = 1.0f - 1e-6f;  // a hit this close to a line is put on it: delta = 0 is one, and stays 0

struct Cell {
    float a, b, c, d;                   // h = d - d_f at the four texels, rows first
};

DEVICE Cell cell_at(const Scene& scene, const Layer& layer, int column, int row) {
    int i = clamp(column, 0, scene.canvas_width - 1), j = clamp(row, 0, scene.canvas_height - 1);
    int right = clamp(column + 1, 0, scene.canvas_width - 1), below = clamp(row + 1, 0, scene.canvas_height - 1);
    const float* upper = layer.values + (size_t)j * scene.canvas_width;
    const float* lower = layer.values + (size_t)below * scene.canvas_width;
    float focus = layer.focus;
    Cell cell = {upper[i] - focus, upper[right] - focus, lower[i] - focus, lower[right] - focus};
    return cell;
}

DEVICE float height_in(const Cell& cell, float u, float v) {
    float top = cell.a + u * (cell.b - cell.a), bottom = cell.c + u * (cell.d - cell.c);
    return top + v * (bottom - top);
}

DEVICE float clamp01(float value) {
    return fminf(1.0f, fmaxf(0.0f, value));
}

// delta = d(p') - d_f of the first hit of the ray p + (ux, uy) * delta, u = K s, of picture pixel (x, y).
DEVICE float intersect_height_field(const Scene& scene, const Layer& layer, int x, int y, float ux, float uy) {
    float low = layer.low, high = layer.high;
    int column = x + scene.margin, row = y + scene.margin;
    float px = ux * high, py = uy * high, ix = floorf(px), iy = floorf(py);
    float h0 = height_in(cell_at(scene, layer, column + (int)ix, row + (int)iy), px - ix, py - iy);
    if (h0 >= high) return high;
    float line_x = ux > 0 ? ceilf(px) - 1 : ix + 1, line_y = uy > 0 ? ceilf(py) - 1 : iy + 1;
    float before = high;
    while (before > low) {
        float to_x = ux != 0 ? line_x / ux : -3.0e38f, to_y = uy != 0 ? line_y / uy : -3.0e38f;
        float after = fminf(before, fmaxf(low, fmaxf(to_x, to_y)));
        float half = (before + after) * 0.5f, step = after - before;
        ix = floorf(ux * half);
        iy = floorf(uy * half);
        Cell cell = cell_at(scene, layer, column + (int)ix, row + (int)iy);
        float h1 = height_in(cell, clamp01(ux * after - ix), clamp01(uy * after - iy));
        float near = h0 - before, far = h1 - after;  // below 0 in front of the field
        float bend = ux * step * uy * step * ((cell.d - cell.c) - (cell.b - cell.a));
        float slope = far - near - bend;
        float root = slope * slope - 4.0f * bend * near;  // below 0 where the ray comes near and turns away
        float t = root < 0 ? -1.0f : -2.0f * near / (slope + sqrtf(root));
        // the hit's delta is taken from h, not from the ray: on level ground it is that level to the bit
        if (t > 0 && t < AT_THE_END) return h1 + (1.0f - t) * ((h0 - h1) - bend * t);
        if (far >= 0 || (t > 0 && t < 1)) return after;
        if (to_x >= after) line_x += ux > 0 ? -1 : 1;
        if (to_y >= after) line_y += uy > 0 ? -1 : 1;
        h0 = h1;
        before = after;
    }
    return low;
}
