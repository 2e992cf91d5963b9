// Linear light to 8-bit sRGB, by the table that `color.encode_8bit` looks codes up in: the same codes to the bit.
#pragma once
#include "scene.cuh"

union FloatBits {
    float number;
    unsigned int bits;
};

DEVICE unsigned char encode_8bit(const Encoding& picture, float linear) {
    FloatBits given, clipped;
    given.number = linear;
    if ((given.bits & 0x7f800000u) == 0x7f800000u) {
        *picture.unsound = 1;
        return 0;
    }
    clipped.number = linear > 0 ? fminf(linear, 1.0f) : 0.0f;
    unsigned char code = picture.least[clipped.bits >> picture.bucket_bits];
    return clipped.number >= picture.steps[code] ? code + 1 : code;
}
