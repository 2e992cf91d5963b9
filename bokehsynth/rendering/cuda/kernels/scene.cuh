// What kernels know of a scene, and how they look layers up.
//
// The files in this folder are CUDA C++ without anything that a C++ compiler for the host does not know, once a dozen
// words (__global__, blockIdx, ...) are defined: tests/support/kernels_on_cpu does that and runs them. Contraction is off
// (--fmad=false): where a fused multiply-add is wanted it is written, so that both compilers give the same bits.
//
// Structs mirror the NumPy types of `structs.py`, field by field.
#pragma once

#define DEVICE static __device__ __forceinline__

const int MAX_LAYERS = 32;
const int TILE_W = 32, ROWS = 8;        // of a tile; a thread of `composite_tiles` holds one column of ROWS pixels
const int LINES = 4, LINES_RGB = 2;     // rows that a thread of `add_control_variate_N` does, and of its kind for 3 sets
const int MOST_PLANES = 4;              // layers for which there is an `add_control_variate_N`
const int BLOCK = 8;                    // side of the blocks of texels whose extremes are known

enum Path { COPY = 0, DIRECT = 1, CONTROL_VARIATE = 3, RAY_TRACED = 4 };  // indices into `rendering.PATHS`

struct alignas(16) Texel {
    float r, g, b, a;                   // linear light, premultiplied
};

// A layer's canvas, as it is uploaded and as kernels read it.
struct Canvas {
    const float* color;                 // [height, width, 3]
    const float* alpha;                 // [height, width]
    const float* values;                // d of a height field [height, width], or 0
    Texel* texels;                      // [height, width]
    float* alphas;                      // least and largest of blocks, [2, block rows, block columns]
    float* heights;                     // the same of `values`
    int height, width;
};

struct Layer {
    const Texel* texels;
    const float* alpha;                 // of the texels alone
    const float* alphas;
    const float* values;                // d of a height field, or 0: then d, gx, gy are a plane
    const float* heights;
    double d, gx, gy;                   // d - d_f at the picture's centre, and its gradient
    float focus, low, high;             // of a height field: d_f, to be taken from `values`; range of what is left
    int first_node, nodes;              // its kernels, ascending in r
};

// A texel's share of the light: summed up in whole numbers where lens points are folded, a part of 1 when it is done.
union Weight {
    unsigned int whole;
    float share;
};

// All rays of one pixel through one layer as weights of texels (`footprint.cuh`).
struct Node {
    const float* points;                // lens points to be folded, [count, 2]
    const float* weights;               // [sets, count], each set of sum 1
    const float* chords;                // or what the opening's image is cut into, [n, 4]: y, height, left, right
    const int* rows;                    // [side + 1]: first chord of every row of texels, y from one to the next
    const float* transmission;          // of the opening, [sets, table_side, table_side] over -1..1
    Weight* sums;                       // [sets, side, side], side = 2 * half + 1, columns first
    int* spans;                         // [side, 2]: first and last row of every column that any set needs
    double r, ex, ey;                   // signed radius in px, and K g
    int count, sets, half, table_side;
};

struct Tile {
    int path, count;
    int start, stop;                    // its rays in the tables
    unsigned int sharp, opaque, moving; // one bit per layer: in focus; hides what is behind. Anything moves at all
    int sorted;                         // whether one order holds for every ray
    int planes;                         // layers of `add_control_variate_N` that does it; 0: `trace_rays` does
    unsigned char order[MAX_LAYERS];    // layers that are seen, near to far
};

struct Scene {
    const Layer* layers;
    const Node* nodes;
    const float* points;                // ray sets of growing side end to end, [N, 2]
    const float* weights;               // [sets, N]
    const int* spans;                   // [sides, 2]: first and last + 1 ray of the set for a side
    const float* pupils;                // centre of the second disc at every pixel, [height, width, 2], or 0
    const float* transmission;          // what a falloff multiplies by, [height, width], or 0
    Tile* tiles;                        // [tile rows, tile columns]
    float* base;                        // [6, height, width]: light and what is let through, of CONTROL_VARIATE tiles
    float* color;                       // [height, width, 3]
    float* coverage;                    // [height, width]
    double blur;                        // K
    float pupil_radius;
    int height, width, canvas_height, canvas_width, margin;
    int layer_count, rays, sides, sets;
    int channels_passed;                // one bit per channel that the aperture lets pass
};

DEVICE int clamp(int value, int low, int high) {
    return value < low ? low : value > high ? high : value;
}

// A picture to be encoded to 8 bits.
struct Encoding {
    const float* color;                 // [values], linear light
    unsigned char* codes;               // [values]
    int* unsound;                       // becomes 1 if a value is not finite
    const unsigned char* least;         // least code of the floats that agree in all but their last `bucket_bits` bits
    const float* steps;                 // [256]: where each code's next one begins
    int values, bucket_bits;
};

// Blocks lie symmetrically about the canvas's centre, so that more overscan cuts a picture into the same ones: this
// many texels of the first block are missing, and so many blocks there are along a side.
DEVICE int block_shift(int side) {
    return (BLOCK - side / 2 % BLOCK) % BLOCK;
}

DEVICE int block_count(int side) {
    return (side + block_shift(side) + BLOCK - 1) / BLOCK;
}

DEVICE int tile_columns(const Scene& scene) {
    return (scene.width + TILE_W - 1) / TILE_W;
}

DEVICE int tile_rows(const Scene& scene) {
    return (scene.height + ROWS - 1) / ROWS;
}

// d(p) - d_f at picture pixel (x, y): of a plane, or of the texel of a height field.
DEVICE double defocus_at(const Scene& scene, const Layer& layer, int x, int y) {
    if (layer.values)
        return layer.values[(size_t)(y + scene.margin) * scene.canvas_width + x + scene.margin] - layer.focus;
    return layer.d + layer.gx * (x - (scene.width - 1) * 0.5) + layer.gy * (y - (scene.height - 1) * 0.5);
}

// Range of a plane's d(p) - d_f over a tile; extremes lie at its corners.
DEVICE void plane_range(const Scene& scene, const Layer& layer, int x0, int y0, int n, int rows, double* low,
                        double* high) {
    *low = 1e300;
    *high = -1e300;
    for (int corner = 0; corner < 4; corner++) {
        double delta = defocus_at(scene, layer, x0 + (corner & 1) * (n - 1), y0 + (corner >> 1) * (rows - 1));
        *low = fmin(*low, delta);
        *high = fmax(*high, delta);
    }
}

DEVICE Texel texel_at(const Scene& scene, const Layer& layer, int x, int y) {
    int row = clamp(y + scene.margin, 0, scene.canvas_height - 1);
    int column = clamp(x + scene.margin, 0, scene.canvas_width - 1);
    return layer.texels[(size_t)row * scene.canvas_width + column];
}

DEVICE float mix(float a, float b, float t) {
    return fmaf(t, b - a, a);           // exactly a where a == b
}

DEVICE Texel mix(const Texel& a, const Texel& b, float t) {
    Texel m = {mix(a.r, b.r, t), mix(a.g, b.g, t), mix(a.b, b.b, t), mix(a.a, b.a, t)};
    return m;
}

// The bilinear lookup, (dx, dy) px away from picture pixel (x, y).
DEVICE Texel look_up(const Scene& scene, const Layer& layer, int x, int y, float dx, float dy) {
    float left = floorf(dx), top = floorf(dy);
    int i = clamp(x + scene.margin + (int)left, 0, scene.canvas_width - 1);
    int j = clamp(y + scene.margin + (int)top, 0, scene.canvas_height - 1);
    int right = i + 1 < scene.canvas_width ? 1 : 0;
    size_t below = j + 1 < scene.canvas_height ? scene.canvas_width : 0;
    const Texel* corner = layer.texels + (size_t)j * scene.canvas_width + i;
    Texel upper = mix(corner[0], corner[right], dx - left);
    Texel lower = mix(corner[below], corner[below + right], dx - left);
    return mix(upper, lower, dy - top);
}

// From light and what no layer stopped, per channel, to a pixel: colour by the light that arrived, and coverage.
DEVICE void write_pixel(const Scene& scene, int x, int y, const float* light, const float* through,
                        int channels_passed) {
    size_t at = (size_t)y * scene.width + x;
    float covered = 0, channels = 0;
    float passed = scene.transmission ? scene.transmission[at] : 1.0f;
    for (int c = 0; c < 3; c++) {
        float arrived = 1.0f - through[c], value = 0;
        if (channels_passed >> c & 1) {
            value = arrived > 0 ? light[c] / arrived : 0;
            covered += arrived;
            channels += 1;
        }
        scene.color[3 * at + c] = value * passed;
    }
    bool same = through[0] == through[1] && through[1] == through[2] && channels_passed == 7;
    scene.coverage[at] = same ? 1.0f - through[0] : channels > 0 ? covered / channels : 0;
}
