// The kernels of the CUDA renderer, in the order in which `batch.py` launches them, each over a whole batch.
#include "footprint.cuh"
#include "rays.cuh"
#include "height_field.cuh"
#include "scene.cuh"
#include "tile_plan.cuh"
#include "layer_filter.cuh"
#include "control_variate.cuh"
#include "encode.cuh"

// Premultiply: threads (256) over texels.
extern "C" __global__ void pack(const Canvas* canvases) {
    const Canvas& canvas = canvases[blockIdx.z];
    size_t at = (size_t)blockIdx.x * 256 + threadIdx.x;
    if (at >= (size_t)canvas.height * canvas.width) return;
    float a = canvas.alpha[at];
    const float* color = canvas.color + 3 * at;
    Texel t = {color[0] * a, color[1] * a, color[2] * a, a};
    canvas.texels[at] = t;
}

// Least and largest alpha and height of BLOCK x BLOCK blocks: threads (64) over blocks.
DEVICE void measure_block(const float* values, int height, int width, int block, float* out) {
    int columns = block_count(width), lines = block_count(height);
    int top = block / columns * BLOCK - block_shift(height), left = block % columns * BLOCK - block_shift(width);
    float least = 3.0e38f, most = -3.0e38f;
    for (int y = top < 0 ? 0 : top; y < top + BLOCK && y < height; y++) {
        for (int x = left < 0 ? 0 : left; x < left + BLOCK && x < width; x++) {
            float value = values[(size_t)y * width + x];
            least = fminf(least, value);
            most = fmaxf(most, value);
        }
    }
    out[block] = least;
    out[(size_t)columns * lines + block] = most;
}

extern "C" __global__ void block_bounds(const Canvas* canvases) {
    const Canvas& canvas = canvases[blockIdx.z];
    int block = blockIdx.x * 64 + threadIdx.x;
    int blocks = block_count(canvas.width) * block_count(canvas.height);
    if (block >= blocks) return;
    measure_block(canvas.alpha, canvas.height, canvas.width, block, canvas.alphas);
    if (canvas.values) measure_block(canvas.values, canvas.height, canvas.width, block, canvas.heights);
}

// Fold lens points into kernels: threads (256) over rays, then (64) over columns.
extern "C" __global__ void fold_rays(const Node* nodes) {
    const Node& node = nodes[blockIdx.x];
    int ray = blockIdx.y * 256 + threadIdx.x;
    if (ray < node.count) fold_ray(node, ray);
}

// Texels of nodes that have chords: threads (256) over texels, then a block (256) for each node.
extern "C" __global__ void integrate_chords(const Node* nodes) {
    const Node& node = nodes[blockIdx.x];
    int side = 2 * node.half + 1, texel = blockIdx.y * 256 + threadIdx.x;
    if (texel >= side * side) return;
    for (int set = 0; set < node.sets; set++)
        node.sums[(size_t)set * side * side + texel].share = integrate_texel(node, set, texel / side, texel % side);
}

extern "C" __global__ void normalise_chords(const Node* nodes) {
    __shared__ double scratch[256];
    for (int set = 0; set < nodes[blockIdx.x].sets; set++) normalise(nodes[blockIdx.x], set, scratch);
}

extern "C" __global__ void measure_columns(const Node* nodes) {
    const Node& node = nodes[blockIdx.x];
    int column = blockIdx.y * 64 + threadIdx.x;
    if (column < 2 * node.half + 1) measure_column(node, column);
}

// Look at every tile: a block of 32 threads for each.
extern "C" __global__ void plan_tiles(const Scene* scenes) {
    __shared__ float scratch[2 * TILE_W];
    const Scene& scene = scenes[blockIdx.z];
    if ((int)blockIdx.x >= tile_columns(scene) || (int)blockIdx.y >= tile_rows(scene)) return;
    int x0 = blockIdx.x * TILE_W, y0 = blockIdx.y * ROWS;
    int n = x0 + TILE_W <= scene.width ? TILE_W : scene.width - x0;
    int rows = y0 + ROWS <= scene.height ? ROWS : scene.height - y0;
    LayerView views[MAX_LAYERS];
    for (int m = 0; m < scene.layer_count; m++)
        views[m] = view_of_layer(scene, scene.layers[m], x0, y0, n, rows, scratch);
    if (threadIdx.x > 0) return;
    Tile& tile = scene.tiles[blockIdx.y * tile_columns(scene) + blockIdx.x];
    order_layers(scene, views, tile);
    choose_path(scene, views, y0, tile);
}

// Tiles without rays, and what rays are added to: a block of 32 x WARPS threads for each tile.
extern "C" __global__ void __launch_bounds__(TILE_W * WARPS, 2) composite_tiles(const Scene* scenes) {
    __shared__ float sums[WARPS * SUMS];
    const Scene& scene = scenes[blockIdx.z];
    if ((int)blockIdx.x >= tile_columns(scene) || (int)blockIdx.y >= tile_rows(scene)) return;
    const Tile& tile = scene.tiles[blockIdx.y * tile_columns(scene) + blockIdx.x];
    if (tile.path == RAY_TRACED) return;
    int x0 = blockIdx.x * TILE_W, y0 = blockIdx.y * ROWS, mine = y0 + threadIdx.y * OWN;
    int x = x0 + (int)threadIdx.x < scene.width ? x0 + (int)threadIdx.x : scene.width - 1;
    bool inside = x0 + (int)threadIdx.x < scene.width;
    float light[OWN][3], through[OWN];
    size_t plane = (size_t)scene.height * scene.width;
    for (int set = 0; set < scene.sets; set++) {
        composite(scene, tile, set, x0, y0, x, sums, light, through);
#pragma unroll
        for (int p = 0; p < OWN; p++) {
            float* base = scene.base + (size_t)(mine + p) * scene.width + x;
            if (!inside || mine + p >= scene.height) continue;
#pragma unroll
            for (int c = 0; c < 3; c++) {
                if (scene.sets > 1 && c != set) continue;
                base[c * plane] = light[p][c];
                base[(3 + c) * plane] = through[p];
            }
        }
    }
    if (tile.path == CONTROL_VARIATE || !inside) return;
    for (int p = 0; p < OWN && mine + p < scene.height; p++) {
        const float* base = scene.base + (size_t)(mine + p) * scene.width + x;
        float all[6];
        for (int k = 0; k < 6; k++) all[k] = base[k * plane];
        write_pixel(scene, x, mine + p, all, all + 3, scene.channels_passed);
    }
}

// Tiles with rays, but those that the kernels below do: a block of 32 x ROWS threads for each tile, one for each pixel.
extern "C" __global__ void trace_rays(const Scene* scenes) {
    const Scene& scene = scenes[blockIdx.z];
    if ((int)blockIdx.x >= tile_columns(scene) || (int)blockIdx.y >= tile_rows(scene)) return;
    const Tile& tile = scene.tiles[blockIdx.y * tile_columns(scene) + blockIdx.x];
    if (tile.path != RAY_TRACED && (tile.path != CONTROL_VARIATE || tile.planes > 0)) return;
    Pixel pixel;
    pixel.x = blockIdx.x * TILE_W + threadIdx.x;
    pixel.y = blockIdx.y * ROWS + threadIdx.y;
    if (pixel.x >= scene.width || pixel.y >= scene.height) return;
    pixel.count = tile.count;
    for (int k = 0; k < tile.count; k++) {
        pixel.order[k] = tile.order[k];
        pixel.delta[k] = (float)defocus_at(scene, scene.layers[tile.order[k]], pixel.x, pixel.y);
    }
    if (tile.path == CONTROL_VARIATE)
        add_control_variate(scene, pixel, tile);
    else
        trace_plain(scene, pixel, tile.opaque, tile.sorted, tile.start, tile.stop, tile.moving);
}

// CONTROL_VARIATE tiles of 2 to MOST_PLANES planes: a block of 32 x ROWS / LINES threads for each tile. The bounds are
// what keeps all sums in registers, and as many threads at work as they leave room for.
#define ADD_CONTROL_VARIATE(name, LAYERS, SETS, PIXELS, BLOCKS)                                               \
    extern "C" __global__ void __launch_bounds__(TILE_W * ROWS / PIXELS, BLOCKS) name(const Scene* scenes) {  \
        __shared__ Hit hits[STAGED_RAYS * LAYERS];                                                            \
        __shared__ LayerInTile in_tile[LAYERS];                                                               \
        const Scene& scene = scenes[blockIdx.z];                                                              \
        if ((int)blockIdx.x >= tile_columns(scene) || (int)blockIdx.y >= tile_rows(scene)) return;            \
        const Tile& tile = scene.tiles[blockIdx.y * tile_columns(scene) + blockIdx.x];                        \
        if (tile.planes != LAYERS || scene.sets != SETS) return;                                              \
        correct_tile<LAYERS, SETS, PIXELS>(scene, tile, blockIdx.x * TILE_W, blockIdx.y * ROWS, hits, in_tile);\
    }

ADD_CONTROL_VARIATE(add_control_variate_2, 2, 1, LINES, 8)
ADD_CONTROL_VARIATE(add_control_variate_3, 3, 1, LINES, 6)
ADD_CONTROL_VARIATE(add_control_variate_4, 4, 1, LINES, 4)
ADD_CONTROL_VARIATE(add_control_variate_2_rgb, 2, 3, LINES_RGB, 4)
ADD_CONTROL_VARIATE(add_control_variate_3_rgb, 3, 3, LINES_RGB, 4)
ADD_CONTROL_VARIATE(add_control_variate_4_rgb, 4, 3, LINES_RGB, 3)

// Encode pictures to 8 bits: threads (256) over values.
extern "C" __global__ void encode_pictures(const Encoding* pictures) {
    const Encoding& picture = pictures[blockIdx.z];
    int at = blockIdx.x * 256 + threadIdx.x;
    if (at < picture.values) picture.codes[at] = encode_8bit(picture, picture.color[at]);
}

// Brute force, the measure of the other kernels: every ray of the whole table meets every layer and is sorted.
extern "C" __global__ void trace_all(const Scene* scenes) {
    const Scene& scene = scenes[blockIdx.z];
    Pixel pixel;
    pixel.x = blockIdx.x * TILE_W + threadIdx.x;
    pixel.y = blockIdx.y * ROWS + threadIdx.y;
    if (pixel.x >= scene.width || pixel.y >= scene.height) return;
    pixel.count = scene.layer_count;
    for (int m = 0; m < scene.layer_count; m++) {
        pixel.order[m] = (unsigned char)m;
        pixel.delta[m] = (float)defocus_at(scene, scene.layers[m], pixel.x, pixel.y);
    }
    trace_plain(scene, pixel, 0u, false, 0, scene.rays, scene.blur > 0);
}
