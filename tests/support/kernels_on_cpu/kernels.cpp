// The very kernels of bokehsynth/rendering/cuda/kernels, compiled for the host: one function per kernel, and what its structs
// measure.
#include "words.h"

#include "bokeh.cu"

template <typename Table>
static void launch(void (*kernel)(const Table*), bool barriers, const void* table, const unsigned int* grid,
                   const unsigned int* block) {
    Flushing as_cupy_compiles;
    blockDim = {block[0], block[1], block[2]};
    for (blockIdx.z = 0; blockIdx.z < grid[2]; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < grid[0]; blockIdx.x++) {
                poison_shared_memory();
                if (barriers) {
                    fibres::run((void (*)(const void*))kernel, table, blockDim);
                    continue;
                }
                for (threadIdx.z = 0; threadIdx.z < block[2]; threadIdx.z++)
                    for (threadIdx.y = 0; threadIdx.y < block[1]; threadIdx.y++)
                        for (threadIdx.x = 0; threadIdx.x < block[0]; threadIdx.x++) kernel((const Table*)table);
            }
}

#define KERNEL(name, barriers)                                                                            \
    extern "C" void launch_##name(const void* table, const unsigned int* grid, const unsigned int* block) { \
        launch(name, barriers, table, grid, block);                                                       \
    }

KERNEL(pack, false)
KERNEL(block_bounds, false)
KERNEL(fold_rays, false)
KERNEL(integrate_chords, false)
KERNEL(normalise_chords, true)
KERNEL(measure_columns, false)
KERNEL(plan_tiles, true)
KERNEL(composite_tiles, true)
KERNEL(trace_rays, false)
KERNEL(trace_all, false)
KERNEL(encode_pictures, false)
KERNEL(add_control_variate_2, true)
KERNEL(add_control_variate_3, true)
KERNEL(add_control_variate_4, true)
KERNEL(add_control_variate_2_rgb, true)
KERNEL(add_control_variate_3_rgb, true)
KERNEL(add_control_variate_4_rgb, true)

// No kernel of ours: reads shared memory that its block never wrote, then leaves something there.
struct Readings {
    unsigned int* found;
};
extern "C" __global__ void read_before_writing(const Readings* readings) {
    __shared__ unsigned int kept;
    readings->found[blockIdx.x] = kept;
    kept = 7;
}
KERNEL(read_before_writing, false)

// Size of a struct, then the offset of each of its fields.
extern "C" void measure_Canvas(size_t* out) {
    const size_t found[] = {sizeof(Canvas), offsetof(Canvas, color), offsetof(Canvas, alpha), offsetof(Canvas, values),
                            offsetof(Canvas, texels), offsetof(Canvas, alphas), offsetof(Canvas, heights),
                            offsetof(Canvas, height), offsetof(Canvas, width)};
    std::copy(std::begin(found), std::end(found), out);
}
extern "C" void measure_Layer(size_t* out) {
    const size_t found[] = {sizeof(Layer), offsetof(Layer, texels), offsetof(Layer, alpha), offsetof(Layer, alphas), offsetof(Layer, values),
                            offsetof(Layer, heights), offsetof(Layer, d), offsetof(Layer, gx), offsetof(Layer, gy),
                            offsetof(Layer, focus), offsetof(Layer, low), offsetof(Layer, high),
                            offsetof(Layer, first_node), offsetof(Layer, nodes)};
    std::copy(std::begin(found), std::end(found), out);
}
extern "C" void measure_Node(size_t* out) {
    const size_t found[] = {sizeof(Node), offsetof(Node, points), offsetof(Node, weights), offsetof(Node, chords),
                            offsetof(Node, rows), offsetof(Node, transmission), offsetof(Node, sums),
                            offsetof(Node, spans), offsetof(Node, r), offsetof(Node, ex), offsetof(Node, ey),
                            offsetof(Node, count), offsetof(Node, sets), offsetof(Node, half),
                            offsetof(Node, table_side)};
    std::copy(std::begin(found), std::end(found), out);
}
extern "C" void measure_Tile(size_t* out) {
    const size_t found[] = {sizeof(Tile), offsetof(Tile, path), offsetof(Tile, count), offsetof(Tile, start),
                            offsetof(Tile, stop), offsetof(Tile, sharp), offsetof(Tile, opaque), offsetof(Tile, moving),
                            offsetof(Tile, sorted), offsetof(Tile, planes), offsetof(Tile, order)};
    std::copy(std::begin(found), std::end(found), out);
}
extern "C" void measure_Scene(size_t* out) {
    const size_t found[] = {sizeof(Scene), offsetof(Scene, layers), offsetof(Scene, nodes), offsetof(Scene, points),
                            offsetof(Scene, weights), offsetof(Scene, spans), offsetof(Scene, pupils),
                            offsetof(Scene, transmission), offsetof(Scene, tiles), offsetof(Scene, base),
                            offsetof(Scene, color), offsetof(Scene, coverage), offsetof(Scene, blur),
                            offsetof(Scene, pupil_radius), offsetof(Scene, height), offsetof(Scene, width),
                            offsetof(Scene, canvas_height), offsetof(Scene, canvas_width), offsetof(Scene, margin),
                            offsetof(Scene, layer_count), offsetof(Scene, rays), offsetof(Scene, sides),
                            offsetof(Scene, sets), offsetof(Scene, channels_passed)};
    std::copy(std::begin(found), std::end(found), out);
}

extern "C" void measure_Encoding(size_t* out) {
    const size_t found[] = {sizeof(Encoding), offsetof(Encoding, color), offsetof(Encoding, codes),
                            offsetof(Encoding, unsound), offsetof(Encoding, least), offsetof(Encoding, steps),
                            offsetof(Encoding, values), offsetof(Encoding, bucket_bits)};
    std::copy(std::begin(found), std::end(found), out);
}

// Numbers that Python and the kernels must agree on.
extern "C" void measure_constants(int* out) {
    const int found[] = {MAX_LAYERS, TILE_W, ROWS, BLOCK, WARPS, LINES, LINES_RGB, MOST_PLANES, COPY, DIRECT, CONTROL_VARIATE, RAY_TRACED};
    std::copy(std::begin(found), std::end(found), out);
}
