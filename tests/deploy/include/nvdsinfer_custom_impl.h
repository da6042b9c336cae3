// The structures of DeepStream 7 that our parsers use, and nothing else: so that they can be
// compiled and run where DeepStream is not installed. Ours, from the names, types and order of
// fields in NVIDIA's API reference (structNvDsInfer*.html); on a device its own header is used.

#pragma once

#include <type_traits>
#include <vector>

#define NVDSINFER_MAX_DIMS 8

enum NvDsInferDataType { FLOAT = 0, HALF = 1, INT8 = 2, INT32 = 3 };

struct NvDsInferDims {
    unsigned int numDims;
    unsigned int d[NVDSINFER_MAX_DIMS];
    unsigned int numElements;
};

struct NvDsInferLayerInfo {
    NvDsInferDataType dataType;
    NvDsInferDims inferDims;
    int bindingIndex;
    const char* layerName;
    void* buffer;
    int isInput;
};

struct NvDsInferNetworkInfo {
    unsigned int width, height, channels;
};

struct NvDsInferParseDetectionParams {
    unsigned int numClassesConfigured;
    std::vector<float> perClassPreclusterThreshold;
    std::vector<float> perClassPostclusterThreshold;
};

struct NvDsInferObjectDetectionInfo {
    unsigned int classId;
    float left, top, width, height;
    float detectionConfidence;
};

struct NvDsInferInstanceMaskInfo {
    unsigned int classId;
    float left, top, width, height;
    float detectionConfidence;
    float* mask;
    unsigned int mask_width, mask_height, mask_size;
};

template <typename Object>
using NvDsInferParser = bool (*)(const std::vector<NvDsInferLayerInfo>&,
                                 const NvDsInferNetworkInfo&,
                                 const NvDsInferParseDetectionParams&, std::vector<Object>&);

// NVIDIA's macros of these names check a parser's type when it is compiled; so do these.
#define CHECK_CUSTOM_PARSE_FUNC_PROTOTYPE(parser)                               \
    static_assert(std::is_same<decltype(&parser),                               \
                               NvDsInferParser<NvDsInferObjectDetectionInfo>>(), \
                  "not a parser of boxes")
#define CHECK_CUSTOM_INSTANCE_MASK_PARSE_FUNC_PROTOTYPE(parser)              \
    static_assert(std::is_same<decltype(&parser),                            \
                               NvDsInferParser<NvDsInferInstanceMaskInfo>>(), \
                  "not a parser of boxes with masks")
