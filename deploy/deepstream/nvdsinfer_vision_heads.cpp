// Output parsers for DeepStream's Gst-nvinfer: tensors of `vh export` files to objects.
//
//   NvDsInferParseCustomVisionHeads       parse-bbox-func-name, network-type=0, cluster-mode=2
//   NvDsInferParseCustomVisionHeadsPose   parse-bbox-instance-mask-func-name, network-type=3,
//                                         cluster-mode=4: also how each head is turned
//
// A head called <head> has the layers, without the batch axis as nvinfer gives them,
//   <head>/boxes    (K, 4)     x1, y1, x2, y2 in pixels of the network's input
//   <head>/scores   (K, C)     probabilities
//   <head>/rotation (K, 3, 3)  head pose only; see docs/head-pose.md
//
// A model may have several heads. Classes are then counted through all of them, heads in the
// order of their names: of "cars" with 3 classes and "pose" with 1, class 3 is the pose's.
// That does not depend on how TensorRT orders its bindings.
//
// Written against the prototypes of NVIDIA's API reference (nvdsinfer.h,
// nvdsinfer_custom_impl.h). Nothing here throws through nvinfer: what does not fit is said on
// stderr, and false is returned.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <iostream>
#include <numeric>
#include <string>
#include <vector>

#include "nvdsinfer_custom_impl.h"

// What NMS of the pose parser allows two heads to overlap; nvinfer's own NMS, which the box
// parser relies on, takes it from the configuration. The same default as `vh detect --iou`.
#ifndef VISION_HEADS_IOU
#define VISION_HEADS_IOU 0.6F
#endif

namespace {

using Layers = std::vector<NvDsInferLayerInfo>;

constexpr const char* kBoxes = "/boxes";
constexpr const char* kScores = "/scores";
constexpr const char* kRotation = "/rotation";

struct Head {
    std::string name;
    const float* boxes = nullptr;
    const float* scores = nullptr;
    const float* rotation = nullptr;  // null where the head finds no poses
    unsigned int candidates = 0;
    unsigned int classes = 0;
    unsigned int first_class = 0;
};

struct Found {
    const Head* head = nullptr;
    unsigned int row = 0;
    unsigned int label = 0;  // counted through all heads
    float score = 0.0F;
    float x1 = 0.0F, y1 = 0.0F, x2 = 0.0F, y2 = 0.0F;
};

class Mismatch : public std::exception {
public:
    explicit Mismatch(std::string text) : text_(std::move(text)) {}
    const char* what() const noexcept override { return text_.c_str(); }

private:
    std::string text_;
};

bool ends_with(const std::string& text, const std::string& end) {
    return text.size() > end.size() &&
           text.compare(text.size() - end.size(), end.size(), end) == 0;
}

std::string shape_of(const NvDsInferLayerInfo& layer) {
    const unsigned int count = std::min(layer.inferDims.numDims, unsigned{NVDSINFER_MAX_DIMS});
    std::string text = "(";
    for (unsigned int axis = 0; axis < count; ++axis) {
        text += (axis > 0 ? ", " : "") + std::to_string(layer.inferDims.d[axis]);
    }
    return text + ")";
}

std::string name_of(const NvDsInferLayerInfo& layer) {
    return layer.layerName == nullptr ? "" : layer.layerName;
}

const NvDsInferLayerInfo* find(const Layers& layers, const std::string& name) {
    for (const auto& layer : layers) {
        if (name_of(layer) == name) return &layer;
    }
    return nullptr;
}

// A layer's numbers, when it has them and its axes are as wanted; 0 stands for any size.
const float* floats(const NvDsInferLayerInfo& layer, const std::vector<unsigned int>& wanted) {
    const std::string name = name_of(layer);
    bool fits = layer.inferDims.numDims == wanted.size();
    for (std::size_t axis = 0; fits && axis < wanted.size(); ++axis) {
        const unsigned int size = layer.inferDims.d[axis];
        fits = size > 0 && (wanted[axis] == 0 || wanted[axis] == size);
    }
    if (!fits) {
        std::string text;
        for (const unsigned int size : wanted) {
            text += (text.empty() ? "" : ", ") + (size > 0 ? std::to_string(size) : "any");
        }
        throw Mismatch("layer " + name + " has the shape " + shape_of(layer) + ", wanted (" +
                       text + ")");
    }
    if (layer.dataType != FLOAT) {
        throw Mismatch("layer " + name + " is no FP32; leave output-io-formats out");
    }
    if (layer.buffer == nullptr) throw Mismatch("layer " + name + " has no buffer");
    return static_cast<const float*>(layer.buffer);
}

std::string known(const Layers& layers) {
    std::string text;
    for (const auto& layer : layers) text += (text.empty() ? "" : ", ") + name_of(layer);
    return text.empty() ? "none" : text;
}

std::vector<Head> heads_of(const Layers& layers, const NvDsInferParseDetectionParams& params) {
    std::vector<Head> heads;
    for (const auto& layer : layers) {
        const std::string name = name_of(layer);
        if (!ends_with(name, kBoxes)) continue;
        Head head;
        head.name = name.substr(0, name.size() - std::strlen(kBoxes));
        head.boxes = floats(layer, {0, 4});
        head.candidates = layer.inferDims.d[0];
        const auto* scores = find(layers, head.name + kScores);
        if (scores == nullptr) {
            throw Mismatch("no layer " + head.name + kScores + "; there are " + known(layers));
        }
        head.scores = floats(*scores, {head.candidates, 0});
        head.classes = scores->inferDims.d[1];
        const auto* rotation = find(layers, head.name + kRotation);
        if (rotation != nullptr) head.rotation = floats(*rotation, {head.candidates, 3, 3});
        heads.push_back(std::move(head));
    }
    if (heads.empty()) throw Mismatch("no layer <head>/boxes; there are " + known(layers));
    std::sort(heads.begin(), heads.end(),
              [](const Head& a, const Head& b) { return a.name < b.name; });
    unsigned int classes = 0;
    for (auto& head : heads) {
        head.first_class = classes;
        classes += head.classes;
    }
    if (classes != params.numClassesConfigured) {
        throw Mismatch("the model has " + std::to_string(classes) + " classes, " +
                       "num-detected-classes says " +
                       std::to_string(params.numClassesConfigured));
    }
    if (params.perClassPreclusterThreshold.size() < classes) {
        throw Mismatch("thresholds are given for " +
                       std::to_string(params.perClassPreclusterThreshold.size()) + " of " +
                       std::to_string(classes) + " classes");
    }
    return heads;
}

// The first of the best classes; NaN counts as absent, as in vision_heads' own decoding.
unsigned int best_class(const float* scores, unsigned int classes, float& best) {
    unsigned int label = 0;
    best = std::isnan(scores[0]) ? 0.0F : scores[0];
    for (unsigned int index = 1; index < classes; ++index) {
        if (scores[index] > best) {
            best = scores[index];
            label = index;
        }
    }
    return label;
}

// Candidates above their class's threshold, cut off at the edges of the network's input.
std::vector<Found> found_in(const Head& head, const NvDsInferNetworkInfo& network,
                            const NvDsInferParseDetectionParams& params) {
    const auto width = static_cast<float>(network.width);
    const auto height = static_cast<float>(network.height);
    std::vector<Found> found;
    for (unsigned int row = 0; row < head.candidates; ++row) {
        Found one;
        one.head = &head;
        one.row = row;
        one.label = head.first_class + best_class(head.scores + std::size_t{row} * head.classes,
                                                  head.classes, one.score);
        if (!(one.score > params.perClassPreclusterThreshold[one.label])) continue;
        const float* box = head.boxes + std::size_t{row} * 4;
        if (!std::all_of(box, box + 4, [](float side) { return std::isfinite(side); })) continue;
        one.x1 = std::clamp(box[0], 0.0F, width);
        one.y1 = std::clamp(box[1], 0.0F, height);
        one.x2 = std::clamp(box[2], 0.0F, width);
        one.y2 = std::clamp(box[3], 0.0F, height);
        if (one.x2 > one.x1 && one.y2 > one.y1) found.push_back(one);
    }
    return found;
}

float overlap(const Found& a, const Found& b) {
    const float width = std::max(0.0F, std::min(a.x2, b.x2) - std::max(a.x1, b.x1));
    const float height = std::max(0.0F, std::min(a.y2, b.y2) - std::max(a.y1, b.y1));
    const float shared = width * height;
    const float all =
        (a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - shared;
    return all > 0.0F ? shared / all : 0.0F;
}

// Greedy suppression within each class, best first; equal scores in the order of candidates.
std::vector<Found> suppressed(std::vector<Found> found, float most) {
    std::stable_sort(found.begin(), found.end(),
                     [](const Found& a, const Found& b) { return a.score > b.score; });
    std::vector<Found> kept;
    for (const auto& one : found) {
        const bool free = std::none_of(kept.begin(), kept.end(), [&](const Found& better) {
            return better.label == one.label && overlap(better, one) > most;
        });
        if (free) kept.push_back(one);
    }
    return kept;
}

template <typename Object>
Object object_of(const Found& found) {
    Object object{};  // fields that later versions of DeepStream add are zero
    object.classId = found.label;
    object.left = found.x1;
    object.top = found.y1;
    object.width = found.x2 - found.x1;
    object.height = found.y2 - found.y1;
    object.detectionConfidence = found.score;
    return object;
}

bool refuse(const char* parser, const char* reason) {
    std::cerr << parser << ": " << reason << std::endl;
    return false;
}

}  // namespace

extern "C" bool NvDsInferParseCustomVisionHeads(
    std::vector<NvDsInferLayerInfo> const& outputLayersInfo,
    NvDsInferNetworkInfo const& networkInfo,
    NvDsInferParseDetectionParams const& detectionParams,
    std::vector<NvDsInferObjectDetectionInfo>& objectList) {
    try {
        std::vector<NvDsInferObjectDetectionInfo> objects;
        for (const auto& head : heads_of(outputLayersInfo, detectionParams)) {
            for (const auto& one : found_in(head, networkInfo, detectionParams)) {
                objects.push_back(object_of<NvDsInferObjectDetectionInfo>(one));
            }
        }
        objectList = std::move(objects);
        return true;
    } catch (const std::exception& error) {
        return refuse("NvDsInferParseCustomVisionHeads", error.what());
    }
}

// The rotation travels in the place of the object's mask: 3 x 3 floats, row by row, without a
// change. nvinfer copies it to NvDsObjectMeta.mask_params and frees it with delete[]. NMS is
// done here, because nvinfer has none for objects with masks (cluster-mode must be 4). Objects
// of heads that find no poses have no mask.
extern "C" bool NvDsInferParseCustomVisionHeadsPose(
    std::vector<NvDsInferLayerInfo> const& outputLayersInfo,
    NvDsInferNetworkInfo const& networkInfo,
    NvDsInferParseDetectionParams const& detectionParams,
    std::vector<NvDsInferInstanceMaskInfo>& objectList) {
    std::vector<NvDsInferInstanceMaskInfo> objects;
    try {
        for (const auto& head : heads_of(outputLayersInfo, detectionParams)) {
            const auto kept =
                suppressed(found_in(head, networkInfo, detectionParams), VISION_HEADS_IOU);
            objects.reserve(objects.size() + kept.size());
            for (const auto& one : kept) {
                auto object = object_of<NvDsInferInstanceMaskInfo>(one);
                if (head.rotation != nullptr) {
                    object.mask_width = object.mask_height = 3;
                    object.mask_size = 9 * sizeof(float);
                    object.mask = new float[9];
                    std::copy_n(head.rotation + std::size_t{one.row} * 9, 9, object.mask);
                }
                objects.push_back(object);  // reserved above: does not throw
            }
        }
        objectList = std::move(objects);
        return true;
    } catch (const std::exception& error) {
        for (auto& object : objects) delete[] object.mask;
        return refuse("NvDsInferParseCustomVisionHeadsPose", error.what());
    }
}

CHECK_CUSTOM_PARSE_FUNC_PROTOTYPE(NvDsInferParseCustomVisionHeads);
CHECK_CUSTOM_INSTANCE_MASK_PARSE_FUNC_PROTOTYPE(NvDsInferParseCustomVisionHeadsPose);
