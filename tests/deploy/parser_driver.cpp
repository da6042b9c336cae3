// Calls a parser as nvinfer does, from plain arrays: for ctypes, which knows no std::vector.

#include <cstddef>
#include <vector>

#include "nvdsinfer_custom_impl.h"

extern "C" bool NvDsInferParseCustomVisionHeads(const std::vector<NvDsInferLayerInfo>&,
                                                const NvDsInferNetworkInfo&,
                                                const NvDsInferParseDetectionParams&,
                                                std::vector<NvDsInferObjectDetectionInfo>&);
extern "C" bool NvDsInferParseCustomVisionHeadsPose(const std::vector<NvDsInferLayerInfo>&,
                                                    const NvDsInferNetworkInfo&,
                                                    const NvDsInferParseDetectionParams&,
                                                    std::vector<NvDsInferInstanceMaskInfo>&);

extern "C" {

struct Layer {
    const char* name;
    void* buffer;
    int type;
    unsigned int axes;
    unsigned int sizes[NVDSINFER_MAX_DIMS];
};

struct Object {
    unsigned int label;
    float left, top, width, height, score;
    float mask[9];
    unsigned int mask_width, mask_height, mask_size;  // all 0 without a mask
};

// Returns how many objects were found, of which at most `room` are written; -1 when refused.
int parse(int pose, const Layer* layers, int count, unsigned int width, unsigned int height,
          unsigned int classes, const float* thresholds, int given, Object* out, int room) {
    std::vector<NvDsInferLayerInfo> infos;
    for (int index = 0; index < count; ++index) {
        NvDsInferLayerInfo info{};
        info.dataType = static_cast<NvDsInferDataType>(layers[index].type);
        info.inferDims.numDims = layers[index].axes;
        info.inferDims.numElements = 1;
        for (unsigned int axis = 0; axis < layers[index].axes; ++axis) {
            info.inferDims.d[axis] = layers[index].sizes[axis];
            info.inferDims.numElements *= layers[index].sizes[axis];
        }
        info.bindingIndex = index + 1;
        info.layerName = layers[index].name;
        info.buffer = layers[index].buffer;
        infos.push_back(info);
    }
    const NvDsInferNetworkInfo network{width, height, 3};
    NvDsInferParseDetectionParams params{};
    params.numClassesConfigured = classes;
    params.perClassPreclusterThreshold.assign(thresholds, thresholds + given);
    if (pose == 0) {
        // nvinfer hands over a list that may hold the frame before.
        std::vector<NvDsInferObjectDetectionInfo> found(3);
        if (!NvDsInferParseCustomVisionHeads(infos, network, params, found)) return -1;
        for (int index = 0; index < room && index < static_cast<int>(found.size()); ++index) {
            const auto& one = found[static_cast<std::size_t>(index)];
            out[index] = {one.classId, one.left, one.top, one.width,
                          one.height,  one.detectionConfidence, {}, 0, 0, 0};
        }
        return static_cast<int>(found.size());
    }
    std::vector<NvDsInferInstanceMaskInfo> found;
    if (!NvDsInferParseCustomVisionHeadsPose(infos, network, params, found)) return -1;
    for (int index = 0; index < static_cast<int>(found.size()); ++index) {
        const auto& one = found[static_cast<std::size_t>(index)];
        if (index < room) {
            out[index] = {one.classId, one.left, one.top, one.width,
                          one.height,  one.detectionConfidence, {}, one.mask_width,
                          one.mask_height, one.mask_size};
            for (int entry = 0; one.mask != nullptr && entry < 9; ++entry) {
                out[index].mask[entry] = one.mask[entry];
            }
        }
        delete[] one.mask;  // as nvinfer does
    }
    return static_cast<int>(found.size());
}
}
